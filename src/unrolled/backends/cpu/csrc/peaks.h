// What a core can do at most, to hold times against: multiply-adds out of registers, and reading. The caller times them.
#pragma once

#include "simd.h"

namespace unrolled::UNROLLED_ISA {

// Chains of multiply-adds that do not wait for each other: more than any core begins before the first is done.
constexpr int CHAINS = 12;

// Runs so many in each chain, and returns how many operations (multiplications and additions of a number) that were.
static double multiply_adds(long rounds) {
  F sum[CHAINS];
  for (int i = 0; i < CHAINS; ++i) sum[i] = splat<F>(i);
  const F x = splat<F>(0.5), y = splat<F>(1);
  for (long round = 0; round < rounds; ++round)
#pragma GCC unroll 16
    for (int i = 0; i < CHAINS; ++i) sum[i] = fma(sum[i], x, y);
  F total = {};
  for (int i = 0; i < CHAINS; ++i) total += sum[i];
  volatile float kept = sum_of_lanes<float>(total);  // so that none of it is left out
  (void)kept;
  return 2.0 * CHAINS * W<float> * double(rounds);
}

// Reads n numbers, and returns their sum.
static float read(const float* x, long n) {
  constexpr int sums = 8, width = W<float>;
  F sum[sums] = {};
  long i = 0;
  for (; i + sums * width <= n; i += sums * width)
#pragma GCC unroll 8
    for (int v = 0; v < sums; ++v) sum[v] += load(x + i + v * width);
  F total = {};
  for (int v = 0; v < sums; ++v) total += sum[v];
  for (; i < n; i += width) total += load(x + i, n - i);
  return sum_of_lanes<float>(total);
}

}  // namespace unrolled::UNROLLED_ISA
