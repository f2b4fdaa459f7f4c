// A table of 256 bytes for each channel: `y = table[c][x]`.
#include "lookup_bytes.h"

#include "processor.h"
#include "rows.h"

namespace sao {

void lookup_bytes_portable(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = table[x[i]];
}

namespace {

#if defined(SAO_X86)

// Sixteen tables of sixteen bytes. A shuffle gives 0 where the highest bit of the index is set: `x ^ 16·k`, raised by 0x70, keeps it
// clear only where x is in table k.
SAO_AVX2 void lookup_bytes_avx2(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t n) {
  int64_t i = 0;
  const __m256i raise = _mm256_set1_epi8(0x70);
  for (; i + 64 <= n; i += 64) {
    __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i + 32));
    __m256i found_a = _mm256_setzero_si256(), found_b = _mm256_setzero_si256();
    for (int k = 0; k < 16; ++k) {
      __m256i part = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table) + k));
      __m256i which = _mm256_set1_epi8(static_cast<char>(16 * k));
      __m256i in_a = _mm256_adds_epu8(_mm256_xor_si256(a, which), raise);
      __m256i in_b = _mm256_adds_epu8(_mm256_xor_si256(b, which), raise);
      found_a = _mm256_or_si256(found_a, _mm256_shuffle_epi8(part, in_a));
      found_b = _mm256_or_si256(found_b, _mm256_shuffle_epi8(part, in_b));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i), found_a);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + i + 32), found_b);
  }
  lookup_bytes_portable(x + i, table, y + i, n - i);
}

SAO_AVX512 void lookup_bytes_avx512(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t n) {
  const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
  const __m512i t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
  int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
    __m512i index = _mm512_loadu_si512(x + i);
    __m512i low = _mm512_permutex2var_epi8(t0, index, t1), high = _mm512_permutex2var_epi8(t2, index, t3);
    _mm512_storeu_si512(y + i, _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high));
  }
  lookup_bytes_portable(x + i, table, y + i, n - i);
}

#elif defined(SAO_NEON)

void lookup_bytes_neon(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t n) {
  const uint8x16x4_t t0 = vld1q_u8_x4(table), t1 = vld1q_u8_x4(table + 64);
  const uint8x16x4_t t2 = vld1q_u8_x4(table + 128), t3 = vld1q_u8_x4(table + 192);
  const uint8x16_t quarter = vdupq_n_u8(64);
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    uint8x16_t index = vld1q_u8(x + i);
    uint8x16_t found = vqtbl4q_u8(t0, index);  // 0 where the index is not in this quarter.
    found = vqtbx4q_u8(found, t1, index = vsubq_u8(index, quarter));
    found = vqtbx4q_u8(found, t2, index = vsubq_u8(index, quarter));
    found = vqtbx4q_u8(found, t3, vsubq_u8(index, quarter));
    vst1q_u8(y + i, found);
  }
  lookup_bytes_portable(x + i, table, y + i, n - i);
}

#endif

}  // namespace

void lookup_bytes(const uint8_t* x, const uint8_t* table, uint8_t* y, int64_t n) {
  switch (kernels()) {
#if defined(SAO_X86)
    case Kernels::AVX512:
      return lookup_bytes_avx512(x, table, y, n);
    case Kernels::AVX_VNNI:
    case Kernels::AVX2:
      return lookup_bytes_avx2(x, table, y, n);
#elif defined(SAO_NEON)
    case Kernels::NEON_DOT:
    case Kernels::NEON:
      return lookup_bytes_neon(x, table, y, n);
#endif
    default:
      return lookup_bytes_portable(x, table, y, n);
  }
}

void LookUpBytes::compute(Run& run) const {
  Shape shape, table_shape;
  const uint8_t* x = run.input<uint8_t>(0, shape);
  const uint8_t* table = run.input<uint8_t>(1, table_shape);
  Rows rows = Rows::of(run, shape, table_shape);
  run.require(rows.entries == 256, "expected a table of 256 entries");
  uint8_t* y = run.output<uint8_t>(0, shape);
  run.parallel(rows.count, [=](int64_t row) {
    lookup_bytes(x + row * rows.length, table + row * rows.entries, y + row * rows.length, rows.length);
  });
}

}  // namespace sao
