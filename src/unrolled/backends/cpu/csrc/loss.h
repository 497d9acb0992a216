// Softmax cross-entropy of rows of logits, fused with its gradient. A row belongs to one thread and is summed in one
// order, so results do not depend on how rows were shared out.
#pragma once

#include <math.h>

#include "kernels.h"
#include "math.h"
#include "simd.h"
#include "team.h"

namespace unrolled::UNROLLED_ISA {

// nats = log(sum of e^logits) - logits[target]; d = (softmax - target) scale, which may be where the logits
// are; the target is one-hot, or smoothed: (1 - smoothing) one-hot + smoothing / size.
// A NaN among the logits may be no maximum, but makes the sum one.
template <class T>
static void cross_entropy(const Loss<T>& q, const Worker& w) {
  typedef Vec<T> V;
  const Share mine(q.rows, w);
  const long whole = q.size / W<T> * W<T>, left = q.size - whole;
  const auto tail = first_lanes<T>(left);
  for (long row = mine.first; row < mine.last; ++row) {
    if (row % 64 == 0 && !w.go_on()) return;
    const T* logits = q.logits + row * q.logits_row;
    const T picked = logits[q.targets[row]];
    const T most = largest(logits, q.size);
    const V shift = broadcast(&most);
    T* d = q.d ? q.d + row * q.d_row : nullptr;
    V sum = {};
    for (long i = 0; i < whole; i += W<T>) {
      const V e = exp(load(logits + i) - shift);
      if (d) store(d + i, e);
      sum += e;
    }
    if (left) {
      const V e = exp(load(logits + whole, left) - shift);
      if (d) store(d + whole, e, left);
      sum += select(tail, e, V{});
    }
    const T total = sum_of_lanes<T>(sum);
    q.nats[row] = ::log(double(total)) + (double(most) - double(picked));
    if (!d) continue;
    const T factor = T(q.scale / double(total));
    const T spread = T(q.scale * q.smoothing / double(q.size));
    const V factors = broadcast(&factor), spreads = broadcast(&spread);
    for (long i = 0; i < whole; i += W<T>) store(d + i, load(d + i) * factors - spreads);
    if (left) store(d + whole, load(d + whole, left) * factors - spreads, left);
    d[q.targets[row]] -= T(q.scale * (1 - q.smoothing));
  }
}

}  // namespace unrolled::UNROLLED_ISA
