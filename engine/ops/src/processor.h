// Which kernels this processor runs.
#pragma once

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#define SAO_X86 1
#include <immintrin.h>
#elif defined(__aarch64__) || defined(_M_ARM64)
#define SAO_NEON 1
#include <arm_neon.h>
#endif

#if defined(SAO_X86) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 11
#error "GCC is too old for kernels with AVX-VNNI: 11 or newer is needed, or clang"
#endif

// A function that uses more instructions than the rest of the library. It may be called only where `kernels()` says so.
#if defined(__GNUC__) || defined(__clang__)
#define SAO_TARGET(features) __attribute__((target(features)))
#define SAO_INLINE inline __attribute__((always_inline))
#else
#define SAO_TARGET(features)
#define SAO_INLINE inline
#endif
#define SAO_AVX2 SAO_TARGET("avx2")
#define SAO_AVX_VNNI SAO_TARGET("avx2,avxvnni")
#if defined(__clang__)
#define SAO_NEON_DOT SAO_TARGET("+dotprod")
#else
#define SAO_NEON_DOT SAO_TARGET("arch=armv8.2-a+dotprod")  // What the header of GCC before 14 asks for.
#endif
#define SAO_AVX512 SAO_TARGET("avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")

namespace sao {

// Kernels from the slowest to the fastest. Every 64-bit Arm processor has NEON, and those since about 2018 instructions for dot
// products as well.
enum class Kernels : int { PORTABLE = 0, NEON = 1, NEON_DOT = 2, AVX2 = 3, AVX_VNNI = 4, AVX512 = 5 };

// The fastest kernels that the processor and its operating system allow, found once.
Kernels fastest_kernels();

// Those in use: the fastest, unless fewer were asked for. Tests ask for each.
Kernels kernels();
void use_kernels(Kernels wanted);
const char* kernels_name(Kernels kernels);

// Whether the processor has Arm's instructions for matrix products of bytes (i8mm), which no kernel here uses.
bool has_matrix_products();

}  // namespace sao
