#include "processor.h"

#if defined(_MSC_VER) && defined(SAO_X86)
#include <intrin.h>
#endif

namespace sao {

namespace {

#if defined(SAO_X86)

void cpuid(unsigned leaf, unsigned registers[4]) {
#if defined(_MSC_VER)
  __cpuidex(reinterpret_cast<int*>(registers), static_cast<int>(leaf), 0);
#else
  __asm__("cpuid" : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3]) : "a"(leaf), "c"(0));
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

Kernels find() {
  constexpr unsigned XSAVE = 1u << 27, AVX = 1u << 28;                          // Leaf 1, ecx.
  constexpr unsigned AVX2 = 1u << 5;                                            // Leaf 7, ebx.
  constexpr unsigned AVX512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;        // F, DQ, BW, VL.
  constexpr unsigned VBMI = 1u << 1;                                            // Leaf 7, ecx.
  constexpr unsigned long long YMM = 0x6, ZMM = 0xe6;
  unsigned leaf[4];
  cpuid(0, leaf);
  if (leaf[0] < 7) return Kernels::PORTABLE;
  cpuid(1, leaf);
  if ((leaf[2] & (XSAVE | AVX)) != (XSAVE | AVX)) return Kernels::PORTABLE;
  unsigned long long saved = saved_registers();
  cpuid(7, leaf);
  if ((saved & YMM) != YMM || !(leaf[1] & AVX2)) return Kernels::PORTABLE;
  bool wide = (saved & ZMM) == ZMM && (leaf[1] & AVX512) == AVX512 && (leaf[2] & VBMI);
  return wide ? Kernels::AVX512 : Kernels::AVX2;
}

#elif defined(SAO_NEON)

Kernels find() { return Kernels::NEON; }

#else

Kernels find() { return Kernels::PORTABLE; }

#endif

Kernels in_use = fastest_kernels();

}  // namespace

Kernels fastest_kernels() {
  static const Kernels found = find();
  return found;
}

Kernels kernels() { return in_use; }

void use_kernels(Kernels wanted) {
#if defined(SAO_NEON)
  if (wanted != Kernels::PORTABLE) wanted = Kernels::NEON;
#elif defined(SAO_X86)
  if (wanted == Kernels::NEON) wanted = Kernels::PORTABLE;
#endif
  in_use = wanted < fastest_kernels() ? wanted : fastest_kernels();
}

const char* kernels_name(Kernels kernels) {
  switch (kernels) {
    case Kernels::AVX512:
      return "avx512-vbmi";
    case Kernels::AVX2:
      return "avx2";
    case Kernels::NEON:
      return "neon";
    default:
      return "portable";
  }
}

}  // namespace sao
