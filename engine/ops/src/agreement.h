// Do the kernels in use compute what the portable ones do, to the last bit?
#pragma once

#include <cstdint>

#include "processor.h"

namespace sao {

// Random numbers, by xorshift: the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2654435769u + 1) {}
  uint64_t bits() {
    state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17;
    return state_;
  }
  int64_t below(int64_t limit) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(limit)); }
  // Evenly between −range and range, and now and then 0, a half, or far beyond.
  float value(float range);

 private:
  uint64_t state_;
};

// Compares every kernel with its portable form on n random values, which begin `offset` values after an aligned address.
// Returns the name of the first that differs, or null. n is at most MOST_COMPARED.
constexpr int64_t MOST_COMPARED = 512, MOST_OFFSET = 16;
const char* first_difference(Random& random, int64_t n, int64_t offset);

// Chooses the fastest kernels that agree with the portable ones, and that are no faster than these.
void use_kernels_that_agree(Kernels most);

}  // namespace sao
