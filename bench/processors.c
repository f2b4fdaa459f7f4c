/*
 * A library to preload that makes a process see a processor without some of its instructions.
 *
 * Linux can make `cpuid` trap (arch_prctl, ARCH_SET_CPUID) where the processor is able to. What the trap's handler answers is the
 * processor's own answer without the features that SAO_ONNX_PROCESSOR hides. Programs that are started get the library again.
 * The C library has asked before; it keeps its own choice of instructions, for copying memory and the like.
 */

#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

/* Leaf 7: AVX-512 F, DQ, IFMA, PF, ER, CD, BW and VL in ebx; VBMI, VBMI2, VNNI, BITALG and VPOPCNTDQ in ecx; 4VNNIW, 4FMAPS,
 * VP2INTERSECT, FP16 and AMX in edx. */
#define AVX512_B (BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31))
#define AVX512_C (BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14))
#define AVX512_VNNI_C BIT(11)
#define AVX512_D (BIT(2) | BIT(3) | BIT(8) | BIT(23))
#define AMX_D (BIT(22) | BIT(24) | BIT(25))
/* Leaf 7, subleaf 1: AVX-VNNI, AVX512-BF16, AMX-FP16 and AVX-IFMA in eax; AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX,
 * AVX-VNNI-INT16 and AVX10 in edx. */
#define AVX_VNNI_A BIT(4)
#define OTHERS_A (BIT(5) | BIT(21) | BIT(23))
#define OTHERS_D (BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19))

static int has_avx512, has_avx_vnni;
static struct sigaction next;

static int set_cpuid(int allowed) { return (int)syscall(SYS_arch_prctl, ARCH_SET_CPUID, (unsigned long)allowed); }

static void answer(uint32_t leaf, uint32_t subleaf, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    set_cpuid(1);
    __cpuid_count(leaf, subleaf, *a, *b, *c, *d);
    set_cpuid(0);
    if (leaf == 7 && subleaf == 0) {
        *d &= ~AMX_D;
        if (has_avx512) {
            *c &= ~AVX512_VNNI_C;
        } else {
            *b &= ~AVX512_B;
            *c &= ~AVX512_C;
            *d &= ~AVX512_D;
        }
    } else if (leaf == 7 && subleaf == 1) {
        *a &= ~OTHERS_A;
        *d &= ~OTHERS_D;
        if (!has_avx_vnni)
            *a &= ~AVX_VNNI_A;
    } else if (leaf == 0x1d || leaf == 0x1e || leaf == 0x24) {
        /* Of AMX and AVX10. */
        *a = *b = *c = *d = 0;
    }
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *instruction = (const uint8_t *)registers[REG_RIP];
    uint32_t a, b, c, d;
    /* The kernel's own fault, not one of an address; then the instruction can be read. */
    if (info->si_code == SI_KERNEL && instruction[0] == 0x0f && instruction[1] == 0xa2) {
        answer((uint32_t)registers[REG_RAX], (uint32_t)registers[REG_RCX], &a, &b, &c, &d);
        registers[REG_RAX] = a;
        registers[REG_RBX] = b;
        registers[REG_RCX] = c;
        registers[REG_RDX] = d;
        registers[REG_RIP] += 2;
    } else if (next.sa_flags & SA_SIGINFO && next.sa_sigaction) {
        next.sa_sigaction(number, info, context);
    } else if (!(next.sa_flags & SA_SIGINFO) && next.sa_handler != SIG_DFL && next.sa_handler != SIG_IGN) {
        next.sa_handler(number);
    } else {
        signal(SIGABRT, SIG_DFL);
        abort();
    }
}

/* A handler of the program's own, Python's faulthandler for instance, comes after this one. */
int sigaction(int number, const struct sigaction *action, struct sigaction *old)
{
    static int (*real)(int, const struct sigaction *, struct sigaction *);
    if (!real)
        real = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
    if (number != SIGSEGV || !getenv("SAO_ONNX_PROCESSOR"))
        return real(number, action, old);
    if (old)
        *old = next;
    if (action)
        next = *action;
    return 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *kind = getenv("SAO_ONNX_PROCESSOR");
    int (*real)(int, const struct sigaction *, struct sigaction *);
    struct sigaction action;
    if (!kind)
        return;
    has_avx512 = !strcmp(kind, "avx512");
    has_avx_vnni = !strcmp(kind, "avx_vnni");
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    real = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
    if (real(SIGSEGV, &action, NULL) || set_cpuid(0)) {
        perror("cpuid cannot be made to trap");
        _exit(3);
    }
}
