// SPDX-License-Identifier: Apache-2.0

/* The executable of a command's init, as bytes of the library. */
    .section .rodata
    .global brood_init_image
    .global brood_init_image_end
    .balign 16
brood_init_image:
    .incbin BROOD_INIT_FILE
brood_init_image_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
