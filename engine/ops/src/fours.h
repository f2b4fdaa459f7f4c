// Rows of bytes, four of them side by side, as instructions for dot products take them.
#pragma once

#include "processor.h"

namespace sao {

// Instructions of Arm take signed values on both sides, so the highest bit of unsigned ones is turned around. Those of x86 and the
// portable kernels take them as they are.
inline bool takes_signed() { return kernels() == Kernels::NEON_DOT; }

// to[t][k] = row[k][t] ^ turned
inline void interleave(const uint8_t* const row[4], int64_t count, uint8_t turned, uint8_t* to) {
  int64_t t = 0;
#if defined(SAO_X86)
  const __m128i turn = _mm_set1_epi8(static_cast<char>(turned));
  for (; t + 16 <= count; t += 16) {
    auto read = [=](int k) { return _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row[k] + t)), turn); };
    const __m128i a = read(0), b = read(1), c = read(2), d = read(3);
    const __m128i ab = _mm_unpacklo_epi8(a, b), cd = _mm_unpacklo_epi8(c, d);
    const __m128i more_ab = _mm_unpackhi_epi8(a, b), more_cd = _mm_unpackhi_epi8(c, d);
    auto* place = reinterpret_cast<__m128i*>(to + 4 * t);
    _mm_storeu_si128(place, _mm_unpacklo_epi16(ab, cd));
    _mm_storeu_si128(place + 1, _mm_unpackhi_epi16(ab, cd));
    _mm_storeu_si128(place + 2, _mm_unpacklo_epi16(more_ab, more_cd));
    _mm_storeu_si128(place + 3, _mm_unpackhi_epi16(more_ab, more_cd));
  }
#elif defined(SAO_NEON)
  const uint8x16_t turn = vdupq_n_u8(turned);
  for (; t + 16 <= count; t += 16) {
    uint8x16x4_t four;
    for (int k = 0; k < 4; ++k) four.val[k] = veorq_u8(vld1q_u8(row[k] + t), turn);
    vst4q_u8(to + 4 * t, four);
  }
#endif
  for (; t < count; ++t)
    for (int k = 0; k < 4; ++k) to[4 * t + k] = row[k][t] ^ turned;
}

// to[t][k] = row[k][t], of two rows.
inline void interleave_pair(const uint8_t* const row[2], int64_t count, uint8_t* to) {
  int64_t t = 0;
#if defined(SAO_X86)
  for (; t + 16 <= count; t += 16) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[0] + t));
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row[1] + t));
    auto* place = reinterpret_cast<__m128i*>(to + 2 * t);
    _mm_storeu_si128(place, _mm_unpacklo_epi8(a, b));
    _mm_storeu_si128(place + 1, _mm_unpackhi_epi8(a, b));
  }
#endif
  for (; t < count; ++t)
    for (int k = 0; k < 2; ++k) to[2 * t + k] = row[k][t];
}

}  // namespace sao
