// Compares every kind of kernels that this processor runs with the portable ones, over random lengths and offsets.
//
//     fuzz [ROUNDS [SEED]]
//
// Compiled with the address and undefined behaviour sanitizers, it finds reads and writes beyond the ends as well: the values lie in
// blocks of exactly their size.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "agreement.h"
#include "processor.h"
#include "gated_rows.h"
#include "lookup_bytes.h"
#include "lookup_steps.h"
#include "quantize_rows.h"

namespace {

// A block of exactly n values.
template <typename T>
class Block {
 public:
  explicit Block(int64_t n) : values_(static_cast<T*>(std::malloc(static_cast<size_t>(n ? n : 1) * sizeof(T)))) {}
  ~Block() { std::free(values_); }
  T& operator[](int64_t i) { return values_[i]; }
  T* get() { return values_; }

 private:
  T* values_;
};

// Runs every kernel once on blocks of their own, for the sanitizers.
void run_on_exact_blocks(sao::Random& random, int64_t n) {
  Block<float> x(n), y(n), bias(n), gate_bias(n), out(n);
  Block<uint8_t> q(n), bytes(n), table(256), steps(2 * sao::STEPS);
  for (int64_t i = 0; i < n; ++i) {
    x[i] = random.value(700), y[i] = random.value(20), bias[i] = random.value(1), gate_bias[i] = random.value(1);
    q[i] = static_cast<uint8_t>(random.bits());
  }
  if (n > 2) x[n / 2] = 0.0f / x[0] * 0.0f, y[n / 3] = 1e38f * 1e38f;  // Not a number, perhaps, and infinity.
  for (int64_t i = 0; i < 256; ++i) table[i] = static_cast<uint8_t>(random.bits());
  for (int64_t i = 0; i < 2 * sao::STEPS; ++i) steps[i] = static_cast<uint8_t>(random.bits());
  sao::lookup_bytes(q.get(), table.get(), bytes.get(), n);
  sao::lookup_steps(x.get(), steps.get(), bytes.get(), n);
  sao::quantize_row(x.get(), sao::largest_of(x.get(), n), 1.0f / 127, bytes.get(), n);
  sao::gate_row(x.get(), y.get(), 0.25f, bias.get(), gate_bias.get(), out.get(), n);
  if (n >= sao::ROTATED) sao::rotate_row(out.get(), n / sao::ROTATED * sao::ROTATED);
}

// Whether the kernels see NaN and infinity in a row as the portable ones do, and NaN wherever it is.
bool sees_what_is_broken(sao::Random& random, int64_t n) {
  const float infinity = 1e38f * 1e38f, nan = infinity - infinity;
  Block<float> x(n);
  Block<uint8_t> expected(n), found(n);
  for (int64_t i = 0; i < n; ++i) x[i] = random.value(20);
  x[random.below(n)] = random.below(2) ? infinity : -infinity;
  const bool broken = random.below(2) != 0;
  if (broken) x[random.below(n)] = random.below(2) ? nan : -nan;
  const sao::Kernels chosen = sao::kernels();
  sao::use_kernels(sao::Kernels::PORTABLE);
  const float largest = sao::largest_of(x.get(), n, 1e-9f);
  sao::quantize_row(x.get(), largest, 1.0f / 127, expected.get(), n);
  sao::use_kernels(chosen);
  const float same = sao::largest_of(x.get(), n, 1e-9f);
  sao::quantize_row(x.get(), largest, 1.0f / 127, found.get(), n);
  static uint8_t steps[2 * sao::STEPS];
  Block<uint8_t> looked_up(n);
  if (sao::lookup_steps(x.get(), steps, looked_up.get(), n) == broken) return false;
  return std::memcmp(&largest, &same, sizeof same) == 0 && (largest != largest) == broken &&
         std::memcmp(expected.get(), found.get(), static_cast<size_t>(n)) == 0;
}

}  // namespace

int main(int count, char** arguments) {
  long rounds = count > 1 ? std::atol(arguments[1]) : 2000;
  auto seed = static_cast<uint64_t>(count > 2 ? std::atol(arguments[2]) : 1);
  int compared = 0;
  for (int level = 0; level <= static_cast<int>(sao::fastest_kernels()); ++level) {
    sao::use_kernels(static_cast<sao::Kernels>(level));
    if (static_cast<int>(sao::kernels()) != level) continue;
    const char* name = sao::kernels_name(sao::kernels());
    sao::Random random(seed);
    for (long round = 0; round < rounds; ++round) {
      int64_t n = random.below(sao::MOST_COMPARED + 1), offset = random.below(sao::MOST_OFFSET + 1);
      if (const char* differs = sao::first_difference(random, n, offset)) {
        std::printf("%s: %s differs from portable at length %lld, offset %lld, round %ld of seed %llu\n", name, differs,
                    static_cast<long long>(n), static_cast<long long>(offset), round, static_cast<unsigned long long>(seed));
        return 1;
      }
      run_on_exact_blocks(random, random.below(300));
      if (!sees_what_is_broken(random, 1 + random.below(300))) {
        std::printf("%s: a row with NaN or infinity differs, round %ld of seed %llu\n", name, round, static_cast<unsigned long long>(seed));
        return 1;
      }
    }
    std::printf("%s: %ld rounds agree\n", name, rounds);
    ++compared;
  }
  return compared > 0 ? 0 : 1;
}
