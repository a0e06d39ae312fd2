// SPDX-License-Identifier: Apache-2.0
//
// The guest program that probes an accelerator: what the first milliseconds of every kernel do, one letter on the
// debug port after each step, in the order of STEPS in run-probe.ts. scripts/probe-assemble.ts makes guest.ts of it.
//
// Entered by the PVH protocol: 32-bit protected mode, flat segments, paging and interrupts off.

        .set DEBUG, 0xe9
        .set TABLES, 0x400000
        .set SCRATCH, 0x800000
        .set APIC, 0xfee00000

        .macro say letter
        movb    $\letter, %al
        outb    %al, $DEBUG
        .endm

        .text
        .code32
        .globl  _start
_start:
        movl    $stack, %esp
        say     'P'

        // Identity map of 4 GiB: one PML4 entry, four PDPT entries, 4 * 512 pages of 2 MiB.
        movl    $TABLES, %edi
        movl    $(6 * 4096 / 4), %ecx
        xorl    %eax, %eax
        rep stosl
        movl    $(TABLES + 0x1003), TABLES
        movl    $TABLES + 0x1000, %edi
        movl    $(TABLES + 0x2003), %eax
        movl    $4, %ecx
1:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $0x1000, %eax
        loop    1b
        movl    $TABLES + 0x2000, %edi
        movl    $0x83, %eax
        movl    $2048, %ecx
1:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $0x200000, %eax
        loop    1b

        movl    %cr4, %eax
        orl     $0x620, %eax            // PAE, OSFXSR, OSXMMEXCPT
        movl    %eax, %cr4
        movl    $TABLES, %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx       // EFER: long mode, no-execute, syscall
        rdmsr
        orl     $0x901, %eax
        wrmsr
        movl    %cr0, %eax
        orl     $0x80010002, %eax       // paging, write protection, FPU monitoring
        andl    $~4, %eax
        movl    %eax, %cr0
        lgdt    gdt_pointer
        ljmp    $8, $long_mode

        .code64
long_mode:
        movl    $16, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        say     'L'

        // Twenty million instructions, of the kind every CPU and every emulator does best.
        movl    $10000000, %ecx
1:      decl    %ecx
        jnz     1b
        say     'R'

        // Touch 16 MiB, a page at a time: each a page the accelerator has to give us.
        movl    $SCRATCH, %edi
        movl    $4096, %ecx
1:      movq    %rdi, (%rdi)
        addq    $4096, %rdi
        loop    1b
        movl    $SCRATCH, %edi
        movl    $4096, %ecx
1:      cmpq    %rdi, (%rdi)
        jne     fail
        addq    $4096, %rdi
        loop    1b
        say     'M'

        // A fault taken and returned from.
        leaq    vector_ud(%rip), %rax
        movl    $6, %edi
        call    set_gate
        leaq    vector_timer(%rip), %rax
        movl    $0x40, %edi
        call    set_gate
        leaq    vector_spurious(%rip), %rax
        movl    $0xff, %edi
        call    set_gate
        lidt    idt_pointer(%rip)
        ud2
        say     'F'

        // Page tables changed under a running program.
        movl    $1000, %ebp
1:      movl    $TABLES + 0x2000 + 8 * 64, %edi // maps 128 MiB
        movq    $0x0800083, %rax                // to 8 MiB
        movq    %rax, (%rdi)
        invlpg  0x8000000
        movq    0x8000000, %rdx
        movq    $0x0a00083, %rax                // to 10 MiB
        movq    %rax, (%rdi)
        invlpg  0x8000000
        cmpq    0x8000000, %rdx
        je      fail
        decl    %ebp
        jnz     1b
        say     'T'

        xorl    %eax, %eax
        cpuid
        movl    $0xc0000102, %ecx       // a model-specific register, there and back
        movl    $0x12345678, %eax
        xorl    %edx, %edx
        wrmsr
        xorl    %eax, %eax
        rdmsr
        cmpl    $0x12345678, %eax
        jne     fail
        say     'C'

        // Ten timer interrupts, sleeping in between.
        movb    $0xff, %al
        outb    %al, $0x21
        outb    %al, $0xa1
        movl    $APIC, %edi
        movl    $0x1ff, 0xf0(%rdi)      // on, spurious vector 255
        movl    $0x0b, 0x3e0(%rdi)      // divide by 1
        movl    $0x20040, 0x320(%rdi)   // periodic, vector 64
        movl    $200000, 0x380(%rdi)
        sti
1:      hlt
        cmpl    $10, ticks(%rip)
        jb      1b
        cli
        movl    $0x10000, 0x320(%rdi)
        say     'I'

        // The time stamp counter, for as long as someone listens.
        rdtsc
        shlq    $32, %rdx
        orq     %rax, %rdx
        movq    %rdx, %rbx
samples:
1:      pause
        rdtsc
        shlq    $32, %rdx
        orq     %rax, %rdx
        movq    %rdx, %rax
        subq    %rbx, %rax
        cmpq    $0x200000, %rax         // a millisecond or so
        jb      1b
        movq    %rdx, %rbx
        say     'S'
        rdtsc
        movl    $DEBUG, %ecx
        xchgl   %ecx, %edx
        movl    $4, %esi
2:      outb    %al, %dx
        shrl    $8, %eax
        decl    %esi
        jnz     2b
        movl    %ecx, %eax
        movl    $4, %esi
3:      outb    %al, %dx
        shrl    $8, %eax
        decl    %esi
        jnz     3b
        jmp     samples

fail:   say     '!'
1:      cli
        hlt
        jmp     1b

        // rax: handler, edi: vector
set_gate:
        shll    $4, %edi
        leaq    idt(%rip), %rdx
        addq    %rdi, %rdx
        movw    %ax, (%rdx)
        movw    $8, 2(%rdx)
        movw    $0x8e00, 4(%rdx)
        shrq    $16, %rax
        movw    %ax, 6(%rdx)
        ret

vector_ud:
        addq    $2, (%rsp)              // past the ud2
        iretq
vector_timer:
        incl    ticks(%rip)
        pushq   %rdi
        movl    $APIC, %edi
        movl    $0, 0xb0(%rdi)
        popq    %rdi
vector_spurious:
        iretq

        .balign 8
gdt:    .quad   0
        .quad   0x00af9b000000ffff      // 64-bit code
        .quad   0x00cf93000000ffff      // data
gdt_pointer:
        .word   23
        .long   gdt
idt_pointer:
        .word   4095
        .quad   idt
ticks:  .long   0
        .balign 16
idt:    // 4 KiB of it, then 4 KiB of stack, all zero and past the end of the file
        .set    stack, idt + 8192
