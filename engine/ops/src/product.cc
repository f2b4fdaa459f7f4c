#include "product.h"

#include <cstring>

#include "fours.h"

namespace sao {

namespace {

constexpr int32_t ZERO = 128;
constexpr int64_t PAIR = 2;

// Without an instruction for fours, pairs of 16 bits are multiplied: [2 · fours, 6, 2] and [2 · fours, 64, 2]. Sums of two products
// of bytes would overflow the 16 bits that AVX2 gives them. The zero point is taken away when values are laid out.
bool takes_pairs() { return kernels() == Kernels::AVX2; }

// A band of rows times a panel of weights.
struct Block {
  const uint8_t* x;  // [fours, 6, 4], or as pairs.
  const int8_t* w;   // [fours, 64, 4], or as pairs.
  int64_t fours, rows, columns;
  const int32_t* offsets;  // [64]: what the sums begin with.
  const float* scales;     // [64]
  float* y;
  int64_t stride;
};

void block_portable(const Block& b) {
  for (int64_t r = 0; r < b.rows; ++r)
    for (int64_t o = 0; o < b.columns; ++o) {
      auto sum = static_cast<uint32_t>(b.offsets[o]);
      for (int64_t four = 0; four < b.fours; ++four)
        for (int64_t k = 0; k < FOUR; ++k)
          sum += static_cast<uint32_t>(static_cast<int32_t>(b.x[(four * BAND + r) * FOUR + k]) * b.w[(four * PANEL + o) * FOUR + k]);
      b.y[r * b.stride + o] = static_cast<float>(static_cast<int32_t>(sum)) * b.scales[o];
    }
}

// Takes 128 times the weights of every output away.
void take_away_portable(const int8_t* w, int64_t fours, int32_t* offsets) {
  for (int64_t four = 0; four < fours; ++four)
    for (int64_t o = 0; o < PANEL; ++o) {
      const int8_t* one = w + (four * PANEL + o) * FOUR;
      // Beyond 32 bits it wraps around, as in registers.
      const auto taken = static_cast<uint32_t>(ZERO * (one[0] + one[1] + one[2] + one[3]));
      offsets[o] = static_cast<int32_t>(static_cast<uint32_t>(offsets[o]) - taken);
    }
}

#if defined(SAO_X86)

inline int32_t four_values(const uint8_t* values) {
  int32_t four;
  std::memcpy(&four, values, sizeof four);
  return four;
}

SAO_AVX512 void take_away_avx512(const int8_t* w, int64_t fours, int32_t* offsets) {
  constexpr int LANES = 16, VECTORS = PANEL / LANES;
  __m512i sums[VECTORS] = {};
  const __m512i ones = _mm512_set1_epi8(1);
  for (int64_t four = 0; four < fours; ++four, w += PANEL * FOUR)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) sums[v] = _mm512_dpbusd_epi32(sums[v], ones, _mm512_loadu_si512(w + FOUR * LANES * v));
  for (int v = 0; v < VECTORS; ++v)
    _mm512_storeu_si512(offsets + LANES * v, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums[v], 7)));
}

SAO_AVX512 void block_avx512(const Block& b) {
  constexpr int LANES = 16, VECTORS = PANEL / LANES;
  __m512i sums[BAND][VECTORS];
#pragma GCC unroll 6
  for (int r = 0; r < BAND; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) sums[r][v] = _mm512_loadu_si512(b.offsets + LANES * v);
  const uint8_t* x = b.x;
  const int8_t* w = b.w;
  for (int64_t four = 0; four < b.fours; ++four, x += BAND * FOUR, w += PANEL * FOUR) {
    __m512i weights[VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) weights[v] = _mm512_loadu_si512(w + FOUR * LANES * v);
#pragma GCC unroll 6
    for (int r = 0; r < BAND; ++r) {
      const __m512i values = _mm512_set1_epi32(four_values(x + FOUR * r));
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], values, weights[v]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < BAND; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; ++v) {
      const int64_t left = b.columns - LANES * v;
      if (r >= b.rows || left <= 0) break;
      const auto stored = static_cast<__mmask16>(left >= LANES ? 0xffff : (1 << left) - 1);
      const __m512 scales = _mm512_maskz_loadu_ps(stored, b.scales + LANES * v);
      _mm512_mask_storeu_ps(b.y + r * b.stride + LANES * v, stored, _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][v]), scales));
    }
}

constexpr int64_t STRIP = 16;  // Outputs that registers of 256 bits have room for.
// Sums of a strip, left in memory: compilers find registers for them only where nothing else is done with them.
using Sums = void (*)(const Block& b, int64_t first, int32_t* sums);

SAO_AVX2 void sums_avx2(const Block& b, int64_t first, int32_t* result) {
  constexpr int LANES = 8, VECTORS = 2;
  __m256i sums[BAND][VECTORS] = {};
  const uint8_t* x = b.x;
  const int8_t* w = b.w + PAIR * first;
  for (int64_t pair = 0; pair < FOUR / PAIR * b.fours; ++pair, x += BAND * FOUR, w += PANEL * PAIR) {
    const __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
    const __m256i high = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + PAIR * LANES)));
#pragma GCC unroll 6
    for (int r = 0; r < BAND; ++r) {
      const __m256i values = _mm256_set1_epi32(four_values(x + FOUR * r));
      sums[r][0] = _mm256_add_epi32(sums[r][0], _mm256_madd_epi16(values, low));
      sums[r][1] = _mm256_add_epi32(sums[r][1], _mm256_madd_epi16(values, high));
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < BAND; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; ++v) _mm256_store_si256(reinterpret_cast<__m256i*>(result + STRIP * r + LANES * v), sums[r][v]);
}

SAO_AVX_VNNI void sums_avx_vnni(const Block& b, int64_t first, int32_t* result) {
  constexpr int LANES = 8, VECTORS = 2;
  __m256i sums[BAND][VECTORS];
#pragma GCC unroll 6
  for (int r = 0; r < BAND; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; ++v)
      sums[r][v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b.offsets + first + LANES * v));
  const uint8_t* x = b.x;
  const int8_t* w = b.w + FOUR * first;
  for (int64_t four = 0; four < b.fours; ++four, x += BAND * FOUR, w += PANEL * FOUR) {
    const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + FOUR * LANES));
#pragma GCC unroll 6
    for (int r = 0; r < BAND; ++r) {
      const __m256i values = _mm256_set1_epi32(four_values(x + FOUR * r));
      sums[r][0] = _mm256_dpbusd_avx_epi32(sums[r][0], values, low);
      sums[r][1] = _mm256_dpbusd_avx_epi32(sums[r][1], values, high);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < BAND; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; ++v) _mm256_store_si256(reinterpret_cast<__m256i*>(result + STRIP * r + LANES * v), sums[r][v]);
}

SAO_AVX2 void block_avx2(const Block& b, Sums sums) {
  constexpr int64_t LANES = 8;
  for (int64_t first = 0; first < b.columns; first += STRIP) {
    alignas(32) int32_t result[BAND * STRIP];
    sums(b, first, result);
    const int64_t columns = b.columns - first < STRIP ? b.columns - first : STRIP;
    for (int64_t r = 0; r < b.rows; ++r) {
      const int32_t* row = result + STRIP * r;
      const float* scales = b.scales + first;
      float* y = b.y + r * b.stride + first;
      int64_t o = 0;
      for (; o + LANES <= columns; o += LANES) {
        const __m256 values = _mm256_cvtepi32_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(row + o)));
        _mm256_storeu_ps(y + o, _mm256_mul_ps(values, _mm256_loadu_ps(scales + o)));
      }
      for (; o < columns; ++o) y[o] = static_cast<float>(row[o]) * scales[o];
    }
  }
}

// Lays out a row of a band in pairs.
SAO_AVX2 void arrange_pairs(const Product& product, const uint8_t* row, uint8_t* to) {
  constexpr int64_t LANES = 16;
  const __m256i zero = _mm256_set1_epi16(ZERO);
  for (int64_t i = 0; i < FOUR * product.fours(); i += LANES) {
    alignas(32) int16_t values[LANES] = {};
    if (i + LANES <= product.inputs) {
      const __m256i read = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + i)));
      _mm256_store_si256(reinterpret_cast<__m256i*>(values), _mm256_sub_epi16(read, zero));
    } else {
      for (int64_t k = 0; i + k < product.inputs; ++k) values[k] = static_cast<int16_t>(row[i + k] - ZERO);
    }
    for (int64_t k = 0; k < LANES && i + k < FOUR * product.fours(); k += PAIR, to += BAND * FOUR) std::memcpy(to, values + k, FOUR);
  }
}

#elif defined(SAO_NEON)

SAO_NEON_DOT void block_neon_dot(const Block& b) {
  constexpr int LANES = 4, VECTORS = 4;
  for (int64_t first = 0; first < b.columns; first += LANES * VECTORS) {
    int32x4_t sums[BAND][VECTORS];
#pragma GCC unroll 6
    for (int r = 0; r < BAND; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) sums[r][v] = vld1q_s32(b.offsets + first + LANES * v);
    const auto* x = reinterpret_cast<const int8_t*>(b.x);
    const int8_t* w = b.w + FOUR * first;
    for (int64_t four = 0; four < b.fours; ++four, x += BAND * FOUR, w += PANEL * FOUR) {
      const int8x16_t early = vld1q_s8(x);
      const int8x8_t late = vld1_s8(x + 16);
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) {
        const int8x16_t weights = vld1q_s8(w + FOUR * LANES * v);
        sums[0][v] = vdotq_laneq_s32(sums[0][v], weights, early, 0);
        sums[1][v] = vdotq_laneq_s32(sums[1][v], weights, early, 1);
        sums[2][v] = vdotq_laneq_s32(sums[2][v], weights, early, 2);
        sums[3][v] = vdotq_laneq_s32(sums[3][v], weights, early, 3);
        sums[4][v] = vdotq_lane_s32(sums[4][v], weights, late, 0);
        sums[5][v] = vdotq_lane_s32(sums[5][v], weights, late, 1);
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < BAND; ++r) {
      if (r >= b.rows) break;
      float* y = b.y + r * b.stride + first;
      float result[LANES * VECTORS];
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; ++v) vst1q_f32(result + LANES * v, vcvtq_f32_s32(sums[r][v]));
      for (int64_t o = 0; o < LANES * VECTORS && first + o < b.columns; ++o) y[o] = result[o] * b.scales[first + o];
    }
  }
}

#endif

void take_away(const int8_t* w, int64_t fours, int32_t* offsets) {
  std::memset(offsets, 0, PANEL * sizeof *offsets);
  if (takes_signed() || takes_pairs()) return;
#if defined(SAO_X86)
  if (kernels() == Kernels::AVX512) return take_away_avx512(w, fours, offsets);
#endif
  take_away_portable(w, fours, offsets);
}

// Lays out a panel of weights: [fours, 64, 4]. What is left is 0.
void arrange_panel(const Product& product, const int8_t* w, int64_t panel, int8_t* arranged) {
  constexpr int64_t SOON = 16;  // Rows. Those of a panel lie far apart, in places that caches do not foresee.
  const int64_t column = panel * PANEL, columns = product.outputs - column < PANEL ? product.outputs - column : PANEL;
  const int8_t none[PANEL] = {};
  w += column;
  for (int64_t four = 0; four < product.fours(); ++four) {
    int8_t* to = arranged + four * PANEL * FOUR;
    const uint8_t* row[FOUR];
    for (int64_t k = 0, i = FOUR * four; k < FOUR; ++k, ++i) {
      row[k] = reinterpret_cast<const uint8_t*>(i < product.inputs ? w + i * product.outputs : none);
      if (i + SOON < product.inputs) __builtin_prefetch(w + (i + SOON) * product.outputs);
    }
    if (takes_pairs()) {
      for (int64_t k = 0; k < FOUR; k += PAIR, to += PANEL * PAIR) {
        interleave_pair(row + k, columns, reinterpret_cast<uint8_t*>(to));
        std::memset(to + PAIR * columns, 0, static_cast<size_t>(PAIR * (PANEL - columns)));
      }
    } else {
      interleave(row, columns, 0, reinterpret_cast<uint8_t*>(to));
      std::memset(to + FOUR * columns, 0, static_cast<size_t>(FOUR * (PANEL - columns)));
    }
  }
}

void multiply(const Block& block) {
  switch (kernels()) {
#if defined(SAO_X86)
    case Kernels::AVX512:
      return block_avx512(block);
    case Kernels::AVX_VNNI:
      return block_avx2(block, sums_avx_vnni);
    case Kernels::AVX2:
      return block_avx2(block, sums_avx2);
#elif defined(SAO_NEON)
    case Kernels::NEON_DOT:
      return block_neon_dot(block);
#endif
    default:
      return block_portable(block);
  }
}

}  // namespace

int64_t Product::band_size() const { return BAND * FOUR * fours() * (takes_pairs() ? static_cast<int64_t>(sizeof(int16_t)) : 1); }

void arrange_band(const Product& product, const uint8_t* x, int64_t band, uint8_t* arranged) {
  const uint32_t turned = takes_signed() ? 0x80808080u : 0;
  const int64_t first = band * BAND, whole = product.inputs / FOUR, rest = product.inputs % FOUR;
  for (int64_t r = 0; r < BAND; ++r) {
    // Rows that are not there are computed as well, and not stored.
    const uint8_t* row = x + (first + r < product.rows ? first + r : first) * product.inputs;
    uint8_t* to = arranged + FOUR * r;
#if defined(SAO_X86)
    if (takes_pairs()) {
      arrange_pairs(product, row, to);
      continue;
    }
#endif
    for (int64_t four = 0; four < whole; ++four, row += FOUR, to += BAND * FOUR) {
      uint32_t values;
      std::memcpy(&values, row, FOUR);
      values ^= turned;
      std::memcpy(to, &values, FOUR);
    }
    if (rest != 0) {
      uint32_t values = 0;
      std::memcpy(&values, row, static_cast<size_t>(rest));
      values ^= turned;
      std::memcpy(to, &values, FOUR);
    }
  }
}

void multiply_panels(const Product& product, const uint8_t* bands, const int8_t* w, const float* scales, int64_t first, int64_t last,
                     int8_t* scratch, float* y) {
  for (int64_t panel = first; panel < last; ++panel) {
    const int64_t column = panel * PANEL, left = product.outputs - column, columns = left < PANEL ? left : PANEL;
    alignas(64) int32_t offsets[PANEL];
    arrange_panel(product, w, panel, scratch);
    take_away(scratch, product.fours(), offsets);
    for (int64_t band = 0; band < product.bands(); ++band) {
      const int64_t row = band * BAND, rows = product.rows - row < BAND ? product.rows - row : BAND;
      multiply({bands + band * product.band_size(), scratch, product.fours(), rows, columns, offsets, scales + column,
                y + row * product.outputs + column, product.outputs});
    }
  }
}

}  // namespace sao
