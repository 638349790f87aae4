/* fibre.c - from one stack to another: the registers that a call keeps, and the stack's pointer. */
extern void aii_fibre_switch(void **save, void *load);

__asm__(
    ".text\n"
    ".hidden aii_fibre_switch\n"
    ".globl aii_fibre_switch\n"
    ".type aii_fibre_switch, @function\n"
    "aii_fibre_switch:\n"
    "  pushq %rbp\n"
    "  pushq %rbx\n"
    "  pushq %r12\n"
    "  pushq %r13\n"
    "  pushq %r14\n"
    "  pushq %r15\n"
    "  movq %rsp, (%rdi)\n"
    "  movq %rsi, %rsp\n"
    "  popq %r15\n"
    "  popq %r14\n"
    "  popq %r13\n"
    "  popq %r12\n"
    "  popq %rbx\n"
    "  popq %rbp\n"
    "  ret\n"
    ".size aii_fibre_switch, . - aii_fibre_switch\n"
    ".section .note.GNU-stack,\"\",@progbits\n");
