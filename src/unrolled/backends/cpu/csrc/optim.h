// Update rules in place, and the sum of squares. A rule's operations, and their order, are those of reference/updates.py,
// of which its text is written; entries do not touch each other, so any share of them gives the same bits.
#pragma once

#include "kernels.h"
#include "math.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

#include "emitted/updates.inc"

template <class T, class Rule>
static void update(const Update<T>& q, long first, long last) {
  typedef Vec<T> V;
  V c[UPDATE_NUMBERS];
  for (int i = 0; i < UPDATE_NUMBERS; ++i) c[i] = broadcast(q.numbers + i);
  const V decay = broadcast(&q.decay);
  for (long i = first; i < last; i += W<T>) {
    const long n = last - i;
    V p = load(q.p + i, n), g = load(q.g + i, n), m[2] = {};
    if (q.decay != 0) g = p * decay + g;
    for (int k = 0; k < Rule::MOMENTS; ++k) m[k] = load(q.moments[k] + i, n);
    Rule::step(p, g, m, c);
    store(q.p + i, p, n);
    for (int k = 0; k < Rule::MOMENTS; ++k) store(q.moments[k] + i, m[k], n);
  }
}

template <class T>
static constexpr UpdateRule<T> update_rules[] = {
#define UNROLLED_UPDATE(Rule) {Rule::name, Rule::MOMENTS, update<T, Rule>},
    UNROLLED_UPDATES
#undef UNROLLED_UPDATE
};

// Sum of the squares of x, in double: 8 sums side by side, each in one order.
template <class T>
static double sum_of_squares(const T* x, long n) {
  double sums[8] = {};
  long i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) sums[k] += double(x[i + k]) * double(x[i + k]);
  double total = 0;
  for (; i < n; ++i) total += double(x[i]) * double(x[i]);
  for (int k = 0; k < 8; ++k) total += sums[k];
  return total;
}

template <class T>
static void scale(T* x, long n, T factor) {
  const Vec<T> f = broadcast(&factor);
  for (long i = 0; i < n; i += W<T>) store(x + i, load(x + i, n - i) * f, n - i);
}

}  // namespace unrolled::UNROLLED_ISA
