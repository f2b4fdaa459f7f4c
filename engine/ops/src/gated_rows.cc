// Between the two matmuls of a gated feed-forward: scales and biases of the first one's results, the gate, a rotation, and the
// quantization for the second one. Stock nodes pass over the values a dozen times.
#include "gated_rows.h"

#include <cstring>

#include "processor.h"
#include "quantize_rows.h"

namespace sao {

namespace {

constexpr float LIMIT = 87.0f, LOG2_E = 1.44269504f, LN2_HIGH = 0.693359375f, LN2_LOW = -2.12194440e-4f;
constexpr float ROUND = 12582912.0f;  // 1.5·2²³: adding and taking it away rounds to a whole number.

// What a gate is: v·g / (1 + e^−g), with e^x to the last or the last but one digit by Cody and Waite's reduction and Cephes'
// polynomial. Written once for single numbers and for vectors of any length: Float and Int are types with the same operators. No
// operation is fused, so all processors give the same.
#define SAO_GATE_OF(Float, Int, convert, y, v, g)                        \
  {                                                                      \
    Float x = -(g);                                                      \
    x = x > -LIMIT ? x : Float{} - LIMIT; /* So does NaN. */             \
    x = x < LIMIT ? x : Float{} + LIMIT;                                 \
    Float power = x * LOG2_E + ROUND - ROUND;                            \
    Float rest = x - power * LN2_HIGH - power * LN2_LOW;                 \
    Float e = rest * 1.9875691500e-4f + 1.3981999507e-3f;                \
    e = e * rest + 8.3334519073e-3f;                                     \
    e = e * rest + 4.1665795894e-2f;                                     \
    e = e * rest + 1.6666665459e-1f;                                     \
    e = e * rest + 5.0000001201e-1f;                                     \
    e = e * (rest * rest) + rest + 1.0f;                                 \
    Int bits = (convert(power, Int) + 127) << 23;                        \
    Float two_to_power;                                                  \
    std::memcpy(&two_to_power, &bits, sizeof bits);                      \
    y = (v) * ((g) / (e * two_to_power + 1.0f));                         \
  }

#define SAO_CAST(value, Type) static_cast<Type>(value)

void gate_portable(const float* value, const float* gate, float scale, const float* value_bias, const float* gate_bias, float* y,
                   int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    float g = scale * gate[i] + gate_bias[i], v = scale * value[i] + value_bias[i];
    SAO_GATE_OF(float, int32_t, SAO_CAST, y[i], v, g)
  }
}

#if defined(SAO_X86) || defined(SAO_NEON)

// The same for several lanes at once.
#define SAO_GATE(name, target, lanes)                                                                                   \
  target void name(const float* value, const float* gate, float scale, const float* value_bias, const float* gate_bias, \
                   float* y, int64_t n) {                                                                               \
    typedef float Float __attribute__((vector_size(4 * lanes)));                                                        \
    typedef int32_t Int __attribute__((vector_size(4 * lanes)));                                                        \
    int64_t i = 0;                                                                                                      \
    for (; i + lanes <= n; i += lanes) {                                                                                \
      Float v, g, v_bias, g_bias, result;                                                                               \
      std::memcpy(&v, value + i, sizeof v), std::memcpy(&v_bias, value_bias + i, sizeof v);                             \
      std::memcpy(&g, gate + i, sizeof g), std::memcpy(&g_bias, gate_bias + i, sizeof g);                               \
      g = scale * g + g_bias, v = scale * v + v_bias;                                                                   \
      SAO_GATE_OF(Float, Int, __builtin_convertvector, result, v, g)                                                    \
      std::memcpy(y + i, &result, sizeof result);                                                                       \
    }                                                                                                                   \
    gate_portable(value + i, gate + i, scale, value_bias + i, gate_bias + i, y + i, n - i);                             \
  }

#endif

#if defined(SAO_X86)
SAO_GATE(gate_avx2, SAO_AVX2, 8)
SAO_GATE(gate_avx512, SAO_AVX512, 16)
#elif defined(SAO_NEON)
SAO_GATE(gate_neon, , 4)
#endif

// The sums and differences of values that are `stride` apart: one of the six factors of the matrix.
void rotate_portable(float* x, int64_t n) {
  for (float* group = x; group < x + n; group += ROTATED) {
    for (int64_t stride = ROTATED / 2; stride > 0; stride /= 2)
      for (int64_t first = 0; first < ROTATED; first += 2 * stride)
        for (int64_t i = first; i < first + stride; ++i) {
          float a = group[i], b = group[i + stride];
          group[i] = a + b, group[i + stride] = a - b;
        }
    for (int64_t i = 0; i < ROTATED; ++i) group[i] *= 0.125f;
  }
}

#if defined(SAO_X86)

template <int count>
SAO_AVX2 inline void across_avx2(__m256* x) {
  for (int stride = count / 2; stride > 0; stride /= 2)
    for (int first = 0; first < count; first += 2 * stride)
      for (int i = first; i < first + stride; ++i) {
        __m256 a = x[i], b = x[i + stride];
        x[i] = _mm256_add_ps(a, b), x[i + stride] = _mm256_sub_ps(a, b);
      }
}

SAO_AVX2 void rotate_avx2(float* x, int64_t n) {
  const __m256 upper = _mm256_setr_ps(0, 0, 0, 0, -0.0f, -0.0f, -0.0f, -0.0f);
  const __m256 second = _mm256_setr_ps(0, 0, -0.0f, -0.0f, 0, 0, -0.0f, -0.0f);
  const __m256 odd = _mm256_setr_ps(0, -0.0f, 0, -0.0f, 0, -0.0f, 0, -0.0f);
  for (float* group = x; group < x + n; group += ROTATED) {
    __m256 v[8];
    for (int i = 0; i < 8; ++i) v[i] = _mm256_loadu_ps(group + 8 * i);
    across_avx2<8>(v);
    for (int i = 0; i < 8; ++i) {
      // The partner of each value, plus it or minus it.
      v[i] = _mm256_add_ps(_mm256_permute2f128_ps(v[i], v[i], 1), _mm256_xor_ps(v[i], upper));
      v[i] = _mm256_add_ps(_mm256_permute_ps(v[i], 0x4e), _mm256_xor_ps(v[i], second));
      v[i] = _mm256_add_ps(_mm256_permute_ps(v[i], 0xb1), _mm256_xor_ps(v[i], odd));
      _mm256_storeu_ps(group + 8 * i, _mm256_mul_ps(v[i], _mm256_set1_ps(0.125f)));
    }
  }
}

SAO_AVX512 void rotate_avx512(float* x, int64_t n) {
  const __m512 sign = _mm512_set1_ps(-0.0f);
  for (float* group = x; group < x + n; group += ROTATED) {
    __m512 a = _mm512_loadu_ps(group), b = _mm512_loadu_ps(group + 16);
    __m512 c = _mm512_loadu_ps(group + 32), d = _mm512_loadu_ps(group + 48);
    __m512 ac = _mm512_add_ps(a, c), bd = _mm512_add_ps(b, d), a_c = _mm512_sub_ps(a, c), b_d = _mm512_sub_ps(b, d);
    __m512 v[4] = {_mm512_add_ps(ac, bd), _mm512_sub_ps(ac, bd), _mm512_add_ps(a_c, b_d), _mm512_sub_ps(a_c, b_d)};
    for (int i = 0; i < 4; ++i) {
      // The partner of each value, plus it or minus it.
      v[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[i], v[i], 0x4e), _mm512_mask_xor_ps(v[i], 0xff00, v[i], sign));
      v[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[i], v[i], 0xb1), _mm512_mask_xor_ps(v[i], 0xf0f0, v[i], sign));
      v[i] = _mm512_add_ps(_mm512_permute_ps(v[i], 0x4e), _mm512_mask_xor_ps(v[i], 0xcccc, v[i], sign));
      v[i] = _mm512_add_ps(_mm512_permute_ps(v[i], 0xb1), _mm512_mask_xor_ps(v[i], 0xaaaa, v[i], sign));
      _mm512_storeu_ps(group + 16 * i, _mm512_mul_ps(v[i], _mm512_set1_ps(0.125f)));
    }
  }
}

#elif defined(SAO_NEON)

void rotate_neon(float* x, int64_t n) {
  for (float* group = x; group < x + n; group += ROTATED) {
    float32x4_t v[16];
    for (int i = 0; i < 16; ++i) v[i] = vld1q_f32(group + 4 * i);
    for (int stride = 8; stride > 0; stride /= 2)
      for (int first = 0; first < 16; first += 2 * stride)
        for (int i = first; i < first + stride; ++i) {
          float32x4_t a = v[i], b = v[i + stride];
          v[i] = vaddq_f32(a, b), v[i + stride] = vsubq_f32(a, b);
        }
    for (int i = 0; i < 16; ++i) {
      float32x2_t low = vget_low_f32(v[i]), high = vget_high_f32(v[i]);
      float32x4_t halves = vcombine_f32(vadd_f32(low, high), vsub_f32(low, high));
      float32x4_t even = vtrn1q_f32(halves, halves), odd = vtrn2q_f32(halves, halves);
      float32x4_t sums = vaddq_f32(even, odd), differences = vsubq_f32(even, odd);
      vst1q_f32(group + 4 * i, vmulq_n_f32(vtrn1q_f32(sums, differences), 0.125f));
    }
  }
}

#endif

}  // namespace

void gate_row(const float* value, const float* gate, float scale, const float* value_bias, const float* gate_bias, float* y,
              int64_t n) {
  switch (kernels()) {
#if defined(SAO_X86)
    case Kernels::AVX512:
      return gate_avx512(value, gate, scale, value_bias, gate_bias, y, n);
    case Kernels::AVX_VNNI:
    case Kernels::AVX2:
      return gate_avx2(value, gate, scale, value_bias, gate_bias, y, n);
#elif defined(SAO_NEON)
    case Kernels::NEON_DOT:
    case Kernels::NEON:
      return gate_neon(value, gate, scale, value_bias, gate_bias, y, n);
#endif
    default:
      return gate_portable(value, gate, scale, value_bias, gate_bias, y, n);
  }
}

void rotate_row(float* x, int64_t n) {
  switch (kernels()) {
#if defined(SAO_X86)
    case Kernels::AVX512:
      return rotate_avx512(x, n);
    case Kernels::AVX_VNNI:
    case Kernels::AVX2:
      return rotate_avx2(x, n);
#elif defined(SAO_NEON)
    case Kernels::NEON_DOT:
    case Kernels::NEON:
      return rotate_neon(x, n);
#endif
    default:
      return rotate_portable(x, n);
  }
}

bool is_rotation(const float* matrix, const Shape& shape) {
  if (!(shape == Shape{{ROTATED, ROTATED}, 2})) return false;
  bool same = true;
  for (int64_t i = 0; i < ROTATED; ++i)
    for (int64_t k = 0; k < ROTATED; ++k) same &= matrix[i * ROTATED + k] == (__builtin_parityll(static_cast<uint64_t>(i & k)) ? -0.125f : 0.125f);
  return same;
}

constexpr const char* OTHER_ROTATION = "expected the orthogonal Hadamard matrix of 64 as the rotation";
constexpr size_t ROTATION = 7;

void QuantizeGatedRows::create(Setup& setup) {
  rotation_is_known_ = setup.is_constant(ROTATION);
  if (!rotation_is_known_) return;
  Shape shape;
  const float* matrix = setup.constant<float>(ROTATION, shape);
  setup.require(!setup.failed() && is_rotation(matrix, shape), OTHER_ROTATION);
}

void QuantizeGatedRows::compute(Run& run) const {
  Shape shape, gate_shape, scale_shape, value_bias_shape, gate_bias_shape, least_shape, step_shape;
  const float* value = run.input<float>(0, shape);
  const float* gate = run.input<float>(1, gate_shape);
  const float* scale = run.input<float>(2, scale_shape);
  const float* value_bias = run.input<float>(3, value_bias_shape);
  const float* gate_bias = run.input<float>(4, gate_bias_shape);
  const float* least = run.input<float>(5, least_shape);
  const float* step = run.input<float>(6, step_shape);
  constexpr size_t AXES = 3;
  const int64_t n = shape.last();
  const Shape rows_shape = Shape::of(shape.lengths[0], shape.lengths[1], 1);
  bool fit = shape.axes == AXES && shape == gate_shape && scale_shape == rows_shape && value_bias_shape.is_vector(n, AXES) &&
             gate_bias_shape.is_vector(n, AXES) && least_shape.is_number(AXES) && step_shape.is_number(1);
  run.require(fit && n % ROTATED == 0, "expected two values, a scale for each row, two biases and two numbers");
  if (!rotation_is_known_) {
    Shape matrix_shape;
    const float* matrix = run.input<float>(ROTATION, matrix_shape);
    run.require(!run.failed() && is_rotation(matrix, matrix_shape), OTHER_ROTATION);
  }
  uint8_t* q = run.output<uint8_t>(0, shape);
  float* largest = run.output<float>(1, rows_shape);
  if (run.failed()) return;
  run.parallel(rows_shape.size(), n * static_cast<int64_t>(sizeof(float)), [=](int64_t row, uint8_t* scratch) {
    auto* hidden = reinterpret_cast<float*>(scratch);
    gate_row(value + row * n, gate + row * n, scale[row], value_bias, gate_bias, hidden, n);
    rotate_row(hidden, n);
    largest[row] = largest_of(hidden, n, *least);
    quantize_row(hidden, largest[row], *step, q + row * n, n);
  });
}

}  // namespace sao
