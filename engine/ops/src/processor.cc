#include "processor.h"

#if defined(_MSC_VER) && defined(SAO_X86)
#include <intrin.h>
#elif defined(_WIN32) && defined(SAO_NEON)
#include <windows.h>
#elif defined(__linux__) && defined(SAO_NEON)
#include <sys/auxv.h>
#elif defined(__APPLE__) && defined(SAO_NEON)
#include <sys/sysctl.h>
#endif

namespace sao {

namespace {

constexpr unsigned bit(Kernels kernels) { return 1u << static_cast<int>(kernels); }

#if defined(SAO_X86)

void cpuid(unsigned leaf, unsigned registers[4], unsigned part = 0) {
#if defined(_MSC_VER)
  __cpuidex(reinterpret_cast<int*>(registers), static_cast<int>(leaf), static_cast<int>(part));
#else
  __asm__("cpuid" : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3]) : "a"(leaf), "c"(part));
#endif
}

// Which registers the operating system saves when it switches between threads.
unsigned long long saved_registers() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<unsigned long long>(high) << 32) | low;
#endif
}

unsigned find() {
  constexpr unsigned XSAVE = 1u << 27, AVX = 1u << 28;                          // Leaf 1, ecx.
  constexpr unsigned AVX2 = 1u << 5;                                            // Leaf 7, ebx.
  constexpr unsigned AVX512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;        // F, DQ, BW, VL.
  constexpr unsigned VBMI = 1u << 1, VNNI = 1u << 11;                           // Leaf 7, ecx.
  constexpr unsigned AVX_VNNI = 1u << 4;                                        // Leaf 7, part 1, eax.
  constexpr unsigned long long YMM = 0x6, ZMM = 0xe6;
  unsigned found = bit(Kernels::PORTABLE), leaf[4];
  cpuid(0, leaf);
  if (leaf[0] < 7) return found;
  cpuid(1, leaf);
  if ((leaf[2] & (XSAVE | AVX)) != (XSAVE | AVX)) return found;
  const unsigned long long saved = saved_registers();
  cpuid(7, leaf);
  if ((saved & YMM) != YMM || !(leaf[1] & AVX2)) return found;
  found |= bit(Kernels::AVX2);
  if ((saved & ZMM) == ZMM && (leaf[1] & AVX512) == AVX512 && (leaf[2] & (VBMI | VNNI)) == (VBMI | VNNI)) found |= bit(Kernels::AVX512);
  if (leaf[0] < 1) return found;
  cpuid(7, leaf, 1);
  return leaf[0] & AVX_VNNI ? found | bit(Kernels::AVX_VNNI) : found;
}

#elif defined(SAO_NEON)

bool has_dot_products() {
#if defined(__APPLE__)
  return true;  // All of Apple's processors for computers.
#elif defined(_WIN32)
  constexpr unsigned long DOT_PRODUCTS = 43;
  return IsProcessorFeaturePresent(DOT_PRODUCTS) != 0;
#elif defined(__linux__)
  constexpr unsigned long DOT_PRODUCTS = 1ul << 20;  // Of AT_HWCAP.
  return (getauxval(AT_HWCAP) & DOT_PRODUCTS) != 0;
#else
  return false;
#endif
}

unsigned find() {
  const unsigned found = bit(Kernels::PORTABLE) | bit(Kernels::NEON);
  return has_dot_products() ? found | bit(Kernels::NEON_DOT) : found;
}

#else

unsigned find() { return bit(Kernels::PORTABLE); }

#endif

// The kernels no faster than those that are wanted.
Kernels fastest_of(Kernels wanted) {
  static const unsigned found = find();
  int level = static_cast<int>(wanted);
  while (!(found & 1u << level)) --level;  // The portable ones are always there.
  return static_cast<Kernels>(level);
}

Kernels in_use = fastest_kernels();

}  // namespace

bool has_matrix_products() {
#if defined(__APPLE__) && defined(SAO_NEON)
  int found = 0;
  size_t size = sizeof found;
  return sysctlbyname("hw.optional.arm.FEAT_I8MM", &found, &size, nullptr, 0) == 0 && found != 0;
#elif defined(_WIN32) && defined(SAO_NEON)
  constexpr unsigned long MATRIX_PRODUCTS = 66;
  return IsProcessorFeaturePresent(MATRIX_PRODUCTS) != 0;
#elif defined(__linux__) && defined(SAO_NEON)
  constexpr unsigned long MATRIX_PRODUCTS = 1ul << 13;  // Of AT_HWCAP2.
  return (getauxval(AT_HWCAP2) & MATRIX_PRODUCTS) != 0;
#else
  return false;
#endif
}

Kernels fastest_kernels() { return fastest_of(Kernels::AVX512); }

Kernels kernels() { return in_use; }

void use_kernels(Kernels wanted) { in_use = fastest_of(wanted); }

const char* kernels_name(Kernels kernels) {
  switch (kernels) {
    case Kernels::AVX512:
      return "avx512-vbmi";
    case Kernels::AVX2:
      return "avx2";
    case Kernels::AVX_VNNI:
      return "avx-vnni";
    case Kernels::NEON_DOT:
      return "neon-dot";
    case Kernels::NEON:
      return "neon";
    default:
      return "portable";
  }
}

}  // namespace sao
