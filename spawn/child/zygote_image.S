// SPDX-License-Identifier: Apache-2.0

/* The zygote's executable, as bytes of the library. */
    .section .rodata
    .global brood_zygote_image
    .global brood_zygote_image_end
    .balign 16
brood_zygote_image:
    .incbin BROOD_ZYGOTE_FILE
brood_zygote_image_end:
    .byte 0
    .section .note.GNU-stack, "", %progbits
