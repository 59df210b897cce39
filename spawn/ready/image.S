// SPDX-License-Identifier: Apache-2.0

/* libbrood_ready.so, as bytes of the library. */
    .section .rodata
    .global brood_ready_image
    .global brood_ready_image_end
    .balign 16
brood_ready_image:
    .incbin BROOD_READY_FILE
brood_ready_image_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
