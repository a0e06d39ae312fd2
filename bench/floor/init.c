// SPDX-License-Identifier: Apache-2.0
//
// The least /init there can be: it powers the machine off. What a VM costs with this init is the floor that
// the boot benchmark measures everything else against.
//
//   gcc -Os -static -nostdlib -ffreestanding -o init init.c

enum { REBOOT_MAGIC1 = 0xfee1dead, REBOOT_MAGIC2 = 0x28121969, REBOOT_RESTART = 0x01234567 };

#if defined(__x86_64__)
enum { SYS_REBOOT = 169 };
static long reboot(long magic1, long magic2, long command) {
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"((long)SYS_REBOOT), "D"(magic1), "S"(magic2), "d"(command)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
enum { SYS_REBOOT = 142 };
static long reboot(long magic1, long magic2, long command) {
  register long x8 __asm__("x8") = SYS_REBOOT;
  register long x0 __asm__("x0") = magic1;
  register long x1 __asm__("x1") = magic2;
  register long x2 __asm__("x2") = command;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}
#else
#error "no system call sequence for this architecture"
#endif

void _start(void) {
  // A restart and not a power-off: neither a microVM without ACPI nor libkrun has a power switch, and both end
  // the VMM when the guest resets (-no-reboot).
  reboot(REBOOT_MAGIC1, REBOOT_MAGIC2, REBOOT_RESTART);
  for (;;) {
  }
}
