#include "convolution.h"

#include <cstdlib>
#include <cstring>

#include "fours.h"

namespace sao {

namespace {

constexpr int32_t ZERO = 128;
constexpr int64_t MOST_DILATION = 1 << 16, MOST_TAPS = 1 << 16;  // So that no size overflows.
constexpr float LEAST = -ZERO, MOST = ZERO - 1;

// A group of outputs over a slab.
struct Tile {
  const int8_t* weights;  // [quads, taps, 8, 4]
  const uint8_t* slab;    // [quads, width, 4]
  int64_t taps, quads, dilation, width;
  const int32_t* offsets;  // [8]: what the sums begin with.
  const float* factors;    // [8]
  uint8_t* y;
  int64_t stride;
};

inline uint8_t requantized(int32_t sum, float factor) {
  // Adding and taking away 1.5·2²³ rounds to a whole number, halves to even, as the default rounding mode does.
  constexpr float ROUND = 12582912.0f;
  float value = static_cast<float>(sum) * factor;
  value = value > LEAST ? value : LEAST;
  value = value < MOST ? value : MOST;
  return static_cast<uint8_t>(static_cast<int32_t>(value + ROUND - ROUND) + ZERO);
}

void group_portable(const Tile& t, int64_t count) {
  for (int64_t o = 0; o < GROUP; ++o)
    for (int64_t position = 0; position < count; ++position) {
      auto sum = static_cast<uint32_t>(t.offsets[o]);
      for (int64_t tap = 0; tap < t.taps; ++tap)
        for (int64_t quad = 0; quad < t.quads; ++quad) {
          const int8_t* w = t.weights + ((quad * t.taps + tap) * GROUP + o) * QUAD;
          const uint8_t* x = t.slab + (quad * t.width + position + tap * t.dilation) * QUAD;
          for (int64_t k = 0; k < QUAD; ++k) sum += static_cast<uint32_t>(static_cast<int32_t>(x[k]) * w[k]);
        }
      t.y[o * t.stride + position] = requantized(static_cast<int32_t>(sum), t.factors[o]);
    }
}

// Every kind of registers has a tile: all eight outputs, or half of them, at the positions of some registers, whose sums stay in
// registers until all taps and inputs are through. A narrower tile is for the rest of a slab.

#if defined(SAO_X86)

inline int32_t four_weights(const int8_t* weights) {
  int32_t four;
  std::memcpy(&four, weights, sizeof four);
  return four;
}

// Stores what sums [8, VECTORS · 16] become.
template <int VECTORS>
SAO_AVX512 void store_avx512(const Tile& t, const int32_t* sums, int64_t start, int64_t count) {
  constexpr int LANES = 16;
  for (int o = 0; o < GROUP; ++o) {
    const __m512 factor = _mm512_set1_ps(t.factors[o]);
    uint8_t* y = t.y + o * t.stride + start;
    for (int v = 0; v < VECTORS; ++v) {
      const __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + LANES * (VECTORS * o + v))), factor);
      // What is too small, or NaN, becomes the least integer, which narrowing saturates.
      const __m512i result = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(MOST), value));
      const __m128i bytes = _mm_xor_si128(_mm512_cvtsepi32_epi8(result), _mm_set1_epi8(static_cast<char>(ZERO)));
      const int64_t left = count - LANES * v;
      if (left >= LANES)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(y + LANES * v), bytes);
      else
        _mm_mask_storeu_epi8(y + LANES * v, static_cast<__mmask16>((1 << left) - 1), bytes);
    }
  }
}

template <int VECTORS>
SAO_AVX512 void tile_avx512(const Tile& t, int64_t start, int64_t count) {
  constexpr int LANES = 16;
  __m512i sums[GROUP][VECTORS];
#pragma GCC unroll 8
  for (int o = 0; o < GROUP; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < VECTORS; ++v) sums[o][v] = _mm512_set1_epi32(t.offsets[o]);
  const int8_t* w = t.weights;
  for (int64_t quad = 0; quad < t.quads; ++quad) {
    const uint8_t* x = t.slab + QUAD * (start + quad * t.width);
    for (int64_t tap = 0; tap < t.taps; ++tap, x += QUAD * t.dilation, w += GROUP * QUAD) {
      __m512i values[VECTORS];
#pragma GCC unroll 3
      for (int v = 0; v < VECTORS; ++v) values[v] = _mm512_loadu_si512(x + QUAD * LANES * v);
#pragma GCC unroll 8
      for (int o = 0; o < GROUP; ++o) {
        const __m512i four = _mm512_set1_epi32(four_weights(w + QUAD * o));
#pragma GCC unroll 3
        for (int v = 0; v < VECTORS; ++v) sums[o][v] = _mm512_dpbusd_epi32(sums[o][v], values[v], four);
      }
    }
  }
  // By way of memory: compilers find registers for the sums of the loop above only where nothing else is done with them.
  alignas(64) int32_t stored[GROUP * VECTORS * LANES];
#pragma GCC unroll 8
  for (int o = 0; o < GROUP; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < VECTORS; ++v) _mm512_store_si512(stored + LANES * (VECTORS * o + v), sums[o][v]);
  store_avx512<VECTORS>(t, stored, start, count);
}

SAO_AVX512 void group_avx512(const Tile& t, int64_t count) {
  int64_t start = 0;
  for (; start + 32 < count; start += 48) tile_avx512<3>(t, start, count - start);
  if (count - start > 16)
    tile_avx512<2>(t, start, count - start);
  else if (count > start)
    tile_avx512<1>(t, start, count - start);
}

// Stores what sums [4, VECTORS · 8] become.
template <int VECTORS>
SAO_AVX_VNNI void store_avx_vnni(const Tile& t, const int32_t* sums, int64_t half, int64_t start, int64_t count) {
  constexpr int LANES = 8, OUTPUTS = GROUP / 2;
  for (int o = 0; o < OUTPUTS; ++o) {
    const __m256 factor = _mm256_set1_ps(t.factors[half + o]);
    uint8_t* y = t.y + (half + o) * t.stride + start;
    for (int v = 0; v < VECTORS && LANES * v < count; ++v) {
      const __m256i sum = _mm256_load_si256(reinterpret_cast<const __m256i*>(sums + LANES * (VECTORS * o + v)));
      __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), factor);
      value = _mm256_min_ps(_mm256_max_ps(value, _mm256_set1_ps(LEAST)), _mm256_set1_ps(MOST));
      const __m256i result = _mm256_cvtps_epi32(value);
      const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
      const __m128i bytes = _mm_xor_si128(_mm_packs_epi16(words, words), _mm_set1_epi8(static_cast<char>(ZERO)));
      const int64_t left = count - LANES * v;
      if (left >= LANES) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(y + LANES * v), bytes);
      } else {
        uint8_t all[16];
        _mm_storeu_si128(reinterpret_cast<__m128i*>(all), bytes);
        std::memcpy(y + LANES * v, all, static_cast<size_t>(left));
      }
    }
  }
}

// Half a group, because there are sixteen registers.
template <int VECTORS>
SAO_AVX_VNNI void tile_avx_vnni(const Tile& t, int64_t half, int64_t start, int64_t count) {
  constexpr int LANES = 8, OUTPUTS = GROUP / 2;
  __m256i sums[OUTPUTS][VECTORS];
#pragma GCC unroll 4
  for (int o = 0; o < OUTPUTS; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < VECTORS; ++v) sums[o][v] = _mm256_set1_epi32(t.offsets[half + o]);
  const int8_t* w = t.weights + QUAD * half;
  for (int64_t quad = 0; quad < t.quads; ++quad) {
    const uint8_t* x = t.slab + QUAD * (start + quad * t.width);
    for (int64_t tap = 0; tap < t.taps; ++tap, x += QUAD * t.dilation, w += GROUP * QUAD) {
      __m256i values[VECTORS];
#pragma GCC unroll 3
      for (int v = 0; v < VECTORS; ++v) values[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + QUAD * LANES * v));
#pragma GCC unroll 4
      for (int o = 0; o < OUTPUTS; ++o) {
        const __m256i four = _mm256_set1_epi32(four_weights(w + QUAD * o));
#pragma GCC unroll 3
        for (int v = 0; v < VECTORS; ++v)
          sums[o][v] = _mm256_dpbusd_avx_epi32(sums[o][v], values[v], four);
      }
    }
  }
  // By way of memory, as above.
  alignas(32) int32_t stored[OUTPUTS * VECTORS * LANES];
#pragma GCC unroll 4
  for (int o = 0; o < OUTPUTS; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < VECTORS; ++v)
      _mm256_store_si256(reinterpret_cast<__m256i*>(stored + LANES * (VECTORS * o + v)), sums[o][v]);
  store_avx_vnni<VECTORS>(t, stored, half, start, count);
}

SAO_AVX_VNNI void group_avx_vnni(const Tile& t, int64_t count) {
  for (int64_t half = 0; half < GROUP; half += GROUP / 2) {
    int64_t start = 0;
    for (; start + 16 < count; start += 24) tile_avx_vnni<3>(t, half, start, count - start);
    for (; start < count; start += 8) tile_avx_vnni<1>(t, half, start, count - start);
  }
}

#elif defined(SAO_NEON)

template <int VECTORS>
SAO_NEON_DOT void tile_neon_dot(const Tile& t, int64_t start, int64_t count) {
  constexpr int LANES = 4;
  int32x4_t sums[GROUP][VECTORS];
#pragma GCC unroll 8
  for (int o = 0; o < GROUP; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < VECTORS; ++v) sums[o][v] = vdupq_n_s32(t.offsets[o]);
  const int8_t* w = t.weights;
  for (int64_t quad = 0; quad < t.quads; ++quad) {
    const uint8_t* x = t.slab + QUAD * (start + quad * t.width);
    for (int64_t tap = 0; tap < t.taps; ++tap, x += QUAD * t.dilation, w += GROUP * QUAD) {
      const int8x16_t low = vld1q_s8(w), high = vld1q_s8(w + 16);
      int8x16_t values[VECTORS];
#pragma GCC unroll 3
      for (int v = 0; v < VECTORS; ++v) values[v] = vld1q_s8(reinterpret_cast<const int8_t*>(x + QUAD * LANES * v));
#pragma GCC unroll 3
      for (int v = 0; v < VECTORS; ++v) {
        sums[0][v] = vdotq_laneq_s32(sums[0][v], values[v], low, 0);
        sums[1][v] = vdotq_laneq_s32(sums[1][v], values[v], low, 1);
        sums[2][v] = vdotq_laneq_s32(sums[2][v], values[v], low, 2);
        sums[3][v] = vdotq_laneq_s32(sums[3][v], values[v], low, 3);
        sums[4][v] = vdotq_laneq_s32(sums[4][v], values[v], high, 0);
        sums[5][v] = vdotq_laneq_s32(sums[5][v], values[v], high, 1);
        sums[6][v] = vdotq_laneq_s32(sums[6][v], values[v], high, 2);
        sums[7][v] = vdotq_laneq_s32(sums[7][v], values[v], high, 3);
      }
    }
  }
#pragma GCC unroll 8
  for (int o = 0; o < GROUP; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < VECTORS; ++v) {
      const int64_t left = count - LANES * v;
      if (left <= 0) break;
      float32x4_t value = vmulq_n_f32(vcvtq_f32_s32(sums[o][v]), t.factors[o]);
      // The "number" form gives the other operand for NaN.
      value = vminq_f32(vmaxnmq_f32(value, vdupq_n_f32(LEAST)), vdupq_n_f32(MOST));
      const int16x4_t words = vmovn_s32(vcvtnq_s32_f32(value));
      const uint8x8_t bytes = veor_u8(vreinterpret_u8_s8(vmovn_s16(vcombine_s16(words, words))), vdup_n_u8(ZERO));
      const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
      uint8_t* y = t.y + o * t.stride + start + LANES * v;
      if (left >= LANES)  // Of a size that is known, it is one instruction.
        std::memcpy(y, &four, LANES);
      else
        std::memcpy(y, &four, static_cast<size_t>(left));
    }
}

SAO_NEON_DOT void group_neon_dot(const Tile& t, int64_t count) {
  int64_t start = 0;
  for (; start + 8 < count; start += 12) tile_neon_dot<3>(t, start, count - start);
  for (; start < count; start += 4) tile_neon_dot<1>(t, start, count - start);
}

#endif

}  // namespace

void Weights::read(Setup& setup, size_t index, int64_t dilation) {
  Shape shape;
  const auto* weights = setup.constant<int8_t>(index, shape);
  const int64_t outputs = shape.lengths[0], inputs = shape.lengths[1], taps = shape.lengths[2];
  if (setup.require(shape.axes == 3 && shape.size() > 0, "expected weights [outputs, inputs, taps]") &&
      setup.require(dilation <= MOST_DILATION && taps <= MOST_TAPS, "the kernel is too long"))
    setup.require(arrange(weights, outputs, inputs, taps, dilation), NO_MEMORY);
}

bool Weights::arrange(const int8_t* weights, int64_t outputs, int64_t inputs, int64_t taps, int64_t dilation) {
  outputs_ = outputs, inputs_ = inputs, taps_ = taps, dilation_ = dilation;
  const int64_t size = groups() * GROUP * quads() * QUAD * taps;
  arranged_ = static_cast<int8_t*>(std::malloc(static_cast<size_t>(size)));
  sums_ = static_cast<int32_t*>(std::malloc(static_cast<size_t>(outputs) * sizeof(int32_t)));
  if (arranged_ == nullptr || sums_ == nullptr) return false;
  int8_t* next = arranged_;
  for (int64_t group = 0; group < groups(); ++group)
    for (int64_t quad = 0; quad < quads(); ++quad)
      for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t o = group * GROUP; o < (group + 1) * GROUP; ++o)
          for (int64_t i = quad * QUAD; i < (quad + 1) * QUAD; ++i)
            *next++ = o < outputs && i < inputs ? weights[(o * inputs + i) * taps + tap] : int8_t{0};
  for (int64_t o = 0; o < outputs; ++o) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < inputs * taps; ++i) sum += static_cast<uint32_t>(weights[o * inputs * taps + i]);
    sums_[o] = static_cast<int32_t>(sum);
  }
  return true;
}

int64_t Weights::slab() const {
  constexpr int64_t CACHED = 96 * 1024, WHOLE = 48;
  const int64_t found = CACHED / (QUAD * quads()) / WHOLE * WHOLE;
  return found < SHORTEST ? SHORTEST : found > LONGEST ? LONGEST : found;
}

void Weights::release() {
  std::free(arranged_);
  std::free(sums_);
}

void arrange_quad(const uint8_t* rows, int64_t available, int64_t stride, int64_t count, int64_t width, uint8_t* quad) {
  const uint8_t turned = takes_signed() ? 0x80 : 0;
  const uint8_t* row[QUAD];  // Any row where there is none: its weights are 0.
  for (int64_t k = 0; k < QUAD; ++k) row[k] = rows + (k < available ? k : 0) * stride;
  interleave(row, count, turned, quad);
  std::memset(quad + QUAD * count, 0, static_cast<size_t>(QUAD * (width - count)));
}

void convolve_group(const Weights& weights, const float* factors, const int32_t* biases, int64_t group, const uint8_t* slab,
                    int64_t count, uint8_t* y, int64_t stride) {
  int32_t offsets[GROUP] = {};
  float own_factors[GROUP] = {};
  const auto zero = static_cast<uint32_t>(takes_signed() ? 0 : ZERO);
  for (int64_t k = 0, o = group * GROUP; k < GROUP && o < weights.outputs(); ++k, ++o) {
    offsets[k] = static_cast<int32_t>(static_cast<uint32_t>(biases[o]) - zero * static_cast<uint32_t>(weights.sums()[o]));
    own_factors[k] = factors[o];
  }
  const Tile tile = {weights.group(group), slab,    weights.taps(), weights.quads(), weights.dilation(),
                     weights.width(),      offsets, own_factors,    y,               stride};
  switch (kernels()) {
#if defined(SAO_X86)
    case Kernels::AVX512:
      return group_avx512(tile, count);
    case Kernels::AVX_VNNI:
      return group_avx_vnni(tile, count);
#elif defined(SAO_NEON)
    case Kernels::NEON_DOT:
      return group_neon_dot(tile, count);
#endif
    default:
      return group_portable(tile, count);
  }
}

}  // namespace sao
