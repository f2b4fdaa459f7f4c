/*
 * A library to preload that makes a process see a processor without some of its instructions.
 *
 * Linux can make `cpuid` trap (arch_prctl, ARCH_SET_CPUID) where the processor is able to. Where it is not, this library is the
 * dynamic linker's auditor as well (LD_AUDIT): it replaces each `cpuid` of the program and of what it loads by `int`, which may not
 * be used and raises the same signal, before any of their code runs. `cpuid.py` finds them; its lists are kept beside this library.
 *
 * What the signal's handler answers is the processor's own answer without the features that SAO_ONNX_PROCESSOR hides. Programs that
 * are started get the library again. The C library has asked before; it keeps its own choice of instructions, for copying memory
 * and the like. Without the trap, programs that are linked statically see the processor as it is.
 */

#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
/* The first bytes of `cpuid` and of `int $0xa2`; the second is the same. */
#define CPUID 0x0f
#define INT 0xcd
#define SECOND 0xa2
#define BIT(n) (1u << (n))

/* Leaf 7: AVX-512 F, DQ, IFMA, PF, ER, CD, BW and VL in ebx; VBMI, VBMI2, VNNI, BITALG and VPOPCNTDQ in ecx; 4VNNIW, 4FMAPS,
 * VP2INTERSECT, FP16 and AMX in edx. */
#define AVX512_IFMA_B BIT(21)
#define AVX512_B (BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31))
#define AVX512_C (BIT(1) | BIT(6) | BIT(11) | BIT(12) | BIT(14))
#define AVX512_D (BIT(2) | BIT(3) | BIT(8) | BIT(23))
#define AMX_D (BIT(22) | BIT(24) | BIT(25))
/* Leaf 7, subleaf 1: AVX-VNNI, AVX512-BF16, AMX-FP16 and AVX-IFMA in eax; AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX,
 * AVX-VNNI-INT16 and AVX10 in edx. */
#define AVX_VNNI_A BIT(4)
#define OTHERS_A (BIT(5) | BIT(21) | BIT(23))
#define OTHERS_D (BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19))

static int traps, has_avx512, has_avx_vnni;
static struct sigaction next;

static int set_cpuid(int allowed) { return (int)syscall(SYS_arch_prctl, ARCH_SET_CPUID, (unsigned long)allowed); }

static void answer(uint32_t leaf, uint32_t subleaf, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    if (traps)
        set_cpuid(1);
    __cpuid_count(leaf, subleaf, *a, *b, *c, *d);
    if (traps)
        set_cpuid(0);
    if (leaf == 7 && subleaf == 0) {
        *b &= ~(has_avx512 ? AVX512_IFMA_B : AVX512_B);
        *c &= ~AVX512_C;
        *d &= ~(AMX_D | AVX512_D);
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
    if (info->si_code == SI_KERNEL && (instruction[0] == CPUID || instruction[0] == INT) && instruction[1] == SECOND) {
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

/* The file with the addresses of the `cpuid` instructions of another one. It is made if it is missing. */
static FILE *list_of(const char *path, const struct stat *about)
{
    const char *folder = getenv("SAO_ONNX_PROCESSOR_FOLDER");
    char finder[PATH_MAX], list[PATH_MAX];
    char *command[] = {finder, (char *)path, list, NULL}, *environment[] = {NULL};
    FILE *found;
    pid_t child;
    if (!folder)
        return NULL;
    snprintf(finder, sizeof finder, "%s/find", folder);
    snprintf(list, sizeof list, "%s/%lx-%lx-%lx-%lx", folder, (long)about->st_dev, (long)about->st_ino, (long)about->st_mtim.tv_sec,
             (long)about->st_mtim.tv_nsec);
    found = fopen(list, "r");
    if (found)
        return found;
    /* Its own environment is empty, so that it is not audited. */
    if (!posix_spawn(&child, finder, NULL, NULL, command, environment))
        waitpid(child, NULL, 0);
    return fopen(list, "r");
}

static void replace(uint8_t *instruction)
{
    long size = sysconf(_SC_PAGESIZE);
    void *page = (void *)((uintptr_t)instruction & -(uintptr_t)size);
    if (instruction[0] != CPUID || instruction[1] != SECOND)
        return;
    /* The dynamic linker itself is among them: its code has to stay executable meanwhile. */
    if (mprotect(page, (size_t)size, PROT_READ | PROT_WRITE | PROT_EXEC)) {
        perror("cpuid cannot be replaced");
        _exit(3);
    }
    instruction[0] = INT;
    mprotect(page, (size_t)size, PROT_READ | PROT_EXEC);
}

unsigned int la_version(unsigned int version) { return getenv("SAO_ONNX_PROCESSOR") ? version : 0; }

/* The dynamic linker calls this for whatever it has mapped, before its first instruction runs. */
unsigned int la_objopen(struct link_map *object, Lmid_t space, uintptr_t *cookie)
{
    const char *own = getenv("LD_PRELOAD");
    char path[PATH_MAX] = "";
    unsigned long place;
    struct stat about;
    FILE *list;
    (void)space, (void)cookie;
    /* The program has no name. What the kernel maps has no file. */
    if (*object->l_name)
        snprintf(path, sizeof path, "%s", object->l_name);
    else if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        return 0;
    if (stat(path, &about) || (own && !strcmp(own, path)))
        return 0;
    list = list_of(path, &about);
    if (!list) {
        fprintf(stderr, "cpuid is not found in %s\n", path);
        _exit(3);
    }
    while (fscanf(list, "%lx", &place) == 1)
        replace((uint8_t *)(object->l_addr + place));
    fclose(list);
    return 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *kind = getenv("SAO_ONNX_PROCESSOR");
    int (*real)(int, const struct sigaction *, struct sigaction *);
    struct sigaction action;
    if (!kind)
        return;
    traps = !getenv("LD_AUDIT");
    has_avx512 = !strcmp(kind, "avx512");
    has_avx_vnni = !strcmp(kind, "avx_vnni");
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    real = (int (*)(int, const struct sigaction *, struct sigaction *))dlsym(RTLD_NEXT, "sigaction");
    if (real(SIGSEGV, &action, NULL) || (traps && set_cpuid(0))) {
        perror("cpuid cannot be made to trap");
        _exit(3);
    }
}
