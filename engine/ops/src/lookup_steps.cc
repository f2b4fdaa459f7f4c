// A table of bytes for each channel, over the whole steps of a value: Snake and the quantization of its result.
#include "lookup_steps.h"

#include "processor.h"
#include "rows.h"

namespace sao {

namespace {

constexpr int64_t ENTRIES = 2 * STEPS;
constexpr float LEAST = 1 - STEPS, MOST = STEPS - 1;

inline int32_t step_of(float x) {
  // In this order NaN becomes the least step, as it does in the vector instructions below.
  float clipped = x > LEAST ? x : LEAST;
  return static_cast<int32_t>(clipped < MOST ? clipped : MOST) & (ENTRIES - 1);
}

#if defined(SAO_X86)

SAO_AVX2 inline __m256i steps_avx2(__m256 x) {
  __m256 clipped = _mm256_min_ps(_mm256_max_ps(x, _mm256_set1_ps(LEAST)), _mm256_set1_ps(MOST));
  return _mm256_and_si256(_mm256_cvttps_epi32(clipped), _mm256_set1_epi32(ENTRIES - 1));
}

SAO_AVX2 bool lookup_steps_avx2(const float* x, const uint8_t* table, uint8_t* y, int64_t n) {
  constexpr int BLOCK = 64;
  alignas(32) uint32_t index[BLOCK];
  __m256 nan = _mm256_setzero_ps();
  int64_t i = 0;
  for (; i + BLOCK <= n; i += BLOCK) {
    for (int k = 0; k < BLOCK; k += 8) {
      const __m256 values = _mm256_loadu_ps(x + i + k);
      nan = _mm256_or_ps(nan, _mm256_cmp_ps(values, values, _CMP_UNORD_Q));
      _mm256_store_si256(reinterpret_cast<__m256i*>(index + k), steps_avx2(values));
    }
    for (int k = 0; k < BLOCK; ++k) y[i + k] = table[index[k]];
  }
  const bool rest = lookup_steps_portable(x + i, table, y + i, n - i);
  return rest && _mm256_movemask_ps(nan) == 0;
}

// The low seven bits of an index choose a byte of two registers, the three above them which two.
SAO_AVX512 bool lookup_steps_avx512(const float* x, const uint8_t* table, uint8_t* y, int64_t n) {
  static_assert(ENTRIES == 8 * 128, "eight pairs of registers");
  __m512i part[16];
  for (int k = 0; k < 16; ++k) part[k] = _mm512_loadu_si512(table + 64 * k);
  const __m512 least = _mm512_set1_ps(LEAST), most = _mm512_set1_ps(MOST);
  __mmask16 nan = 0;
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
    for (int k = 0; k < 4; ++k) {
      const __m512 values = _mm512_loadu_ps(x + i + 16 * k);
      nan |= _mm512_cmp_ps_mask(values, values, _CMP_UNORD_Q);
      __m512 clipped = _mm512_min_ps(_mm512_max_ps(values, least), most);
      __m512i step = _mm512_cvttps_epi32(clipped);
      __m128i bits = _mm512_cvtepi32_epi8(step), above = _mm512_cvtepi32_epi8(_mm512_srai_epi32(step, 7));
      switch (k) {
        case 0:
          low = _mm512_castsi128_si512(bits), high = _mm512_castsi128_si512(above);
          break;
        case 1:
          low = _mm512_inserti32x4(low, bits, 1), high = _mm512_inserti32x4(high, above, 1);
          break;
        case 2:
          low = _mm512_inserti32x4(low, bits, 2), high = _mm512_inserti32x4(high, above, 2);
          break;
        default:
          low = _mm512_inserti32x4(low, bits, 3), high = _mm512_inserti32x4(high, above, 3);
      }
    }
    const __mmask64 bit0 = _mm512_test_epi8_mask(high, _mm512_set1_epi8(1));
    const __mmask64 bit1 = _mm512_test_epi8_mask(high, _mm512_set1_epi8(2));
    const __mmask64 bit2 = _mm512_test_epi8_mask(high, _mm512_set1_epi8(4));
    __m512i found[8];
    for (int k = 0; k < 8; ++k) found[k] = _mm512_permutex2var_epi8(part[2 * k], low, part[2 * k + 1]);
    for (int k = 0; k < 4; ++k) found[k] = _mm512_mask_blend_epi8(bit0, found[2 * k], found[2 * k + 1]);
    for (int k = 0; k < 2; ++k) found[k] = _mm512_mask_blend_epi8(bit1, found[2 * k], found[2 * k + 1]);
    _mm512_storeu_si512(y + i, _mm512_mask_blend_epi8(bit2, found[0], found[1]));
  }
  return lookup_steps_portable(x + i, table, y + i, n - i) && nan == 0;
}

#elif defined(SAO_NEON)

bool lookup_steps_neon(const float* x, const uint8_t* table, uint8_t* y, int64_t n) {
  constexpr int BLOCK = 32;
  uint16_t index[BLOCK];
  const float32x4_t least = vdupq_n_f32(LEAST), most = vdupq_n_f32(MOST);
  const uint16x8_t mask = vdupq_n_u16(ENTRIES - 1);
  uint32x4_t numbers = vdupq_n_u32(~0u);
  int64_t i = 0;
  for (; i + BLOCK <= n; i += BLOCK) {
    for (int k = 0; k < BLOCK; k += 8) {
      // The "number" forms give the other operand for NaN.
      const float32x4_t first = vld1q_f32(x + i + k), second = vld1q_f32(x + i + k + 4);
      numbers = vandq_u32(numbers, vandq_u32(vceqq_f32(first, first), vceqq_f32(second, second)));
      int32x4_t a = vcvtq_s32_f32(vminq_f32(vmaxnmq_f32(first, least), most));
      int32x4_t b = vcvtq_s32_f32(vminq_f32(vmaxnmq_f32(second, least), most));
      int16x8_t both = vcombine_s16(vmovn_s32(a), vmovn_s32(b));
      vst1q_u16(index + k, vandq_u16(vreinterpretq_u16_s16(both), mask));
    }
    for (int k = 0; k < BLOCK; ++k) y[i + k] = table[index[k]];
  }
  return lookup_steps_portable(x + i, table, y + i, n - i) && vminvq_u32(numbers) != 0;
}

#endif

}  // namespace

bool lookup_steps_portable(const float* x, const uint8_t* table, uint8_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = table[step_of(x[i])];
  int32_t nan = 0;  // In a loop of its own, which compilers make vectors of.
  for (int64_t i = 0; i < n; ++i) nan |= x[i] != x[i];
  return nan == 0;
}

bool lookup_steps(const float* x, const uint8_t* table, uint8_t* y, int64_t n) {
  switch (kernels()) {
#if defined(SAO_X86)
    case Kernels::AVX512:
      return lookup_steps_avx512(x, table, y, n);
    case Kernels::AVX_VNNI:
    case Kernels::AVX2:
      return lookup_steps_avx2(x, table, y, n);
#elif defined(SAO_NEON)
    case Kernels::NEON_DOT:
    case Kernels::NEON:
      return lookup_steps_neon(x, table, y, n);
#endif
    default:
      return lookup_steps_portable(x, table, y, n);
  }
}

void LookUpSteps::compute(Run& run) const {
  Shape shape, table_shape;
  const float* x = run.input<float>(0, shape);
  const uint8_t* table = run.input<uint8_t>(1, table_shape);
  Rows rows = Rows::of(run, shape, table_shape);
  run.require(rows.entries == ENTRIES, "expected a table of 1024 entries");
  uint8_t* y = run.output<uint8_t>(0, shape);
  bool numbers = true;  // Threads only ever write false.
  run.parallel(rows.count, [=, &numbers](int64_t row) {
    if (!lookup_steps(x + row * rows.length, table + row * rows.entries, y + row * rows.length, rows.length))
      __atomic_store_n(&numbers, false, __ATOMIC_RELAXED);
  });
  run.require(numbers, "expected numbers, found NaN");
}

}  // namespace sao
