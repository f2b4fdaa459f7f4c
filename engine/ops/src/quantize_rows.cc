// Rows of a value, divided by their largest value and quantized: the input of an 8-bit matmul.
#include "quantize_rows.h"

#include <cstring>

#include "processor.h"

namespace sao {

namespace {

constexpr int ZERO = 128;

inline uint8_t quantized(float x, float largest, float step) {
  // Adding and taking away 1.5·2²³ rounds to a whole number, halves to even, as the default rounding mode does.
  constexpr float ROUND = 12582912.0f;
  float steps = x / largest / step;
  steps = steps > -ZERO ? steps : -ZERO;  // NaN becomes −128.
  steps = steps < ZERO - 1 ? steps : ZERO - 1;
  return static_cast<uint8_t>(static_cast<int>(steps + ROUND - ROUND) + ZERO);
}

// Magnitudes are compared as whole numbers: their bits have the order of the numbers, with infinity above those and NaN above all.
constexpr int32_t MAGNITUDE = 0x7fffffff, INFINITE = 0x7f800000, NOT_A_NUMBER = 0x7fc00000;

int32_t largest_portable(const float* x, int64_t n) {
  int32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    int32_t bits;
    std::memcpy(&bits, x + i, sizeof bits);
    bits &= MAGNITUDE;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

void quantize_portable(const float* x, float largest, float step, uint8_t* q, int64_t n) {
  for (int64_t i = 0; i < n; ++i) q[i] = quantized(x[i], largest, step);
}

#if defined(SAO_X86)

SAO_AVX2 int32_t largest_avx2(const float* x, int64_t n) {
  const __m256i magnitude = _mm256_set1_epi32(MAGNITUDE);
  __m256i a = _mm256_setzero_si256(), b = a;
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    a = _mm256_max_epi32(_mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i)), magnitude), a);
    b = _mm256_max_epi32(_mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i + 8)), magnitude), b);
  }
  alignas(32) int32_t lanes[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), _mm256_max_epi32(a, b));
  int32_t found = largest_portable(x + i, n - i);
  for (int32_t lane : lanes) found = lane > found ? lane : found;
  return found;
}

SAO_AVX2 inline __m256i steps_avx2(const float* x, __m256 largest, __m256 step) {
  __m256 steps = _mm256_div_ps(_mm256_div_ps(_mm256_loadu_ps(x), largest), step);
  steps = _mm256_min_ps(_mm256_max_ps(steps, _mm256_set1_ps(-ZERO)), _mm256_set1_ps(ZERO - 1));
  return _mm256_cvtps_epi32(steps);
}

SAO_AVX2 void quantize_avx2(const float* x, float largest, float step, uint8_t* q, int64_t n) {
  const __m256 all_largest = _mm256_set1_ps(largest), all_step = _mm256_set1_ps(step);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // Packing works in each half of a register.
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    __m256i a = steps_avx2(x + i, all_largest, all_step), b = steps_avx2(x + i + 8, all_largest, all_step);
    __m256i c = steps_avx2(x + i + 16, all_largest, all_step), d = steps_avx2(x + i + 24, all_largest, all_step);
    __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    packed = _mm256_xor_si256(packed, _mm256_set1_epi8(static_cast<char>(ZERO)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q + i), _mm256_permutevar8x32_epi32(packed, order));
  }
  quantize_portable(x + i, largest, step, q + i, n - i);
}

SAO_AVX512 int32_t largest_avx512(const float* x, int64_t n) {
  const __m512i magnitude = _mm512_set1_epi32(MAGNITUDE);
  __m512i a = _mm512_setzero_si512(), b = a;
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    a = _mm512_max_epi32(_mm512_and_si512(_mm512_loadu_si512(x + i), magnitude), a);
    b = _mm512_max_epi32(_mm512_and_si512(_mm512_loadu_si512(x + i + 16), magnitude), b);
  }
  int32_t found = _mm512_reduce_max_epi32(_mm512_max_epi32(a, b)), rest = largest_portable(x + i, n - i);
  return found > rest ? found : rest;
}

SAO_AVX512 void quantize_avx512(const float* x, float largest, float step, uint8_t* q, int64_t n) {
  const __m512 all_largest = _mm512_set1_ps(largest), all_step = _mm512_set1_ps(step);
  const __m512 least = _mm512_set1_ps(-ZERO);
  const __m128i zero = _mm_set1_epi8(static_cast<char>(ZERO));
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    __m512 steps = _mm512_div_ps(_mm512_div_ps(_mm512_loadu_ps(x + i), all_largest), all_step);
    __m128i packed = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(steps, least), _mm512_set1_ps(ZERO))));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q + i), _mm_xor_si128(packed, zero));
  }
  quantize_portable(x + i, largest, step, q + i, n - i);
}

#elif defined(SAO_NEON)

int32_t largest_neon(const float* x, int64_t n) {
  int32x4_t a = vdupq_n_s32(0), b = a;
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    a = vmaxq_s32(vreinterpretq_s32_f32(vabsq_f32(vld1q_f32(x + i))), a);
    b = vmaxq_s32(vreinterpretq_s32_f32(vabsq_f32(vld1q_f32(x + i + 4))), b);
  }
  int32_t found = vmaxvq_s32(vmaxq_s32(a, b)), rest = largest_portable(x + i, n - i);
  return found > rest ? found : rest;
}

inline int16x4_t steps_neon(const float* x, float32x4_t largest, float32x4_t step) {
  float32x4_t steps = vdivq_f32(vdivq_f32(vld1q_f32(x), largest), step);
  return vqmovn_s32(vcvtnq_s32_f32(vmaxnmq_f32(steps, vdupq_n_f32(-ZERO))));
}

void quantize_neon(const float* x, float largest, float step, uint8_t* q, int64_t n) {
  const float32x4_t all_largest = vdupq_n_f32(largest), all_step = vdupq_n_f32(step);
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    int16x8_t both = vcombine_s16(steps_neon(x + i, all_largest, all_step), steps_neon(x + i + 4, all_largest, all_step));
    vst1_u8(q + i, veor_u8(vreinterpret_u8_s8(vqmovn_s16(both)), vdup_n_u8(ZERO)));
  }
  quantize_portable(x + i, largest, step, q + i, n - i);
}

#endif

int32_t largest_bits(const float* x, int64_t n) {
  switch (kernels()) {
#if defined(SAO_X86)
    case Kernels::AVX512:
      return largest_avx512(x, n);
    case Kernels::AVX_VNNI:
    case Kernels::AVX2:
      return largest_avx2(x, n);
#elif defined(SAO_NEON)
    case Kernels::NEON_DOT:
    case Kernels::NEON:
      return largest_neon(x, n);
#endif
    default:
      return largest_portable(x, n);
  }
}

}  // namespace

float largest_of(const float* x, int64_t n, float least) {
  int32_t bits = largest_bits(x, n);
  if (bits > INFINITE) bits = NOT_A_NUMBER;  // The same one from all kernels.
  float largest;
  std::memcpy(&largest, &bits, sizeof largest);
  return largest > least || largest != largest ? largest : least;
}

void quantize_row(const float* x, float largest, float step, uint8_t* q, int64_t n) {
  switch (kernels()) {
#if defined(SAO_X86)
    case Kernels::AVX512:
      return quantize_avx512(x, largest, step, q, n);
    case Kernels::AVX_VNNI:
    case Kernels::AVX2:
      return quantize_avx2(x, largest, step, q, n);
#elif defined(SAO_NEON)
    case Kernels::NEON_DOT:
    case Kernels::NEON:
      return quantize_neon(x, largest, step, q, n);
#endif
    default:
      return quantize_portable(x, largest, step, q, n);
  }
}

void QuantizeRows::compute(Run& run) const {
  Shape shape, least_shape, step_shape;
  const float* x = run.input<float>(0, shape);
  const float* least = run.input<float>(1, least_shape);
  const float* step = run.input<float>(2, step_shape);
  // A number of more axes than the value would give it as many.
  const bool fit = shape.axes > 0 && least_shape.is_number(shape.axes) && step_shape.is_number(1);
  run.require(fit, "expected a value and two numbers");
  Shape largest_shape = shape;
  if (!run.failed()) largest_shape.lengths[shape.axes - 1] = 1;
  uint8_t* q = run.output<uint8_t>(0, shape);
  float* largest = run.output<float>(1, largest_shape);
  if (run.failed()) return;
  const int64_t n = shape.last();
  run.parallel(largest_shape.size(), [=](int64_t row) {
    largest[row] = largest_of(x + row * n, n, *least);
    quantize_row(x + row * n, largest[row], *step, q + row * n, n);
  });
}

}  // namespace sao
