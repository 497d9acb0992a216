// Sampling tokens one after the other from a language network, in one call.
#pragma once

#include <math.h>

#include "kernels.h"
#include "linear.h"
#include "math.h"
#include "simd.h"
#include "team.h"

namespace unrolled::UNROLLED_ISA {

// The weights e^((logit - largest) / temperature) of some blocks, and each block's sum.
template <class T>
static void weigh(const Sampling<T>& q, const Share& blocks) {
  const long size = q.decoder.outputs;
  const T* logits = q.decoder.y;
  const T most = largest(logits, size);
  for (long block = blocks.first; block < blocks.last; ++block) {
    const long first = block * PICK_BLOCK, end = first + PICK_BLOCK, last = end < size ? end : size;
    double* weights = q.weights;
    for (long i = first; i < last; ++i) weights[i] = double(logits[i] - most);
    for (long i = last; i < end; ++i) weights[i] = -INFINITY;
    if (q.temperature != 1)
      for (long i = first; i < end; ++i) weights[i] /= q.temperature;
    D sums = {};
    for (long i = first; i < end; i += W<double>) {
      const D e = exp(load(weights + i));
      store(weights + i, e);
      sums += e;
    }
    q.sums[block] = sum_of_lanes<double>(sums);
  }
}

// The first index whose cumulated weight exceeds u times the sum of all; the rule is that of models/sampling.py. -1 where
// the largest logit is infinite or one is NaN: then so is the sum.
template <class T>
static long long pick(const Sampling<T>& q, double u) {
  const long size = q.decoder.outputs;
  double total = 0, before = 0;
  for (long block = 0; block < q.blocks; ++block) total += q.sums[block];
  if (!(total < INFINITY)) return -1;
  const double limit = u * total;
  for (long block = 0; block < q.blocks; ++block) {
    const double after = before + q.sums[block];
    if (after > limit) {
      long last = block * PICK_BLOCK;  // that has any weight: added up one by one, the block may round to the limit itself
      for (long i = last; i < (block + 1) * PICK_BLOCK && i < size; ++i) {
        before += q.weights[i];
        if (q.weights[i] > 0) last = i;
        if (before > limit) return i;
      }
      return last;
    }
    before = after;
  }
  return size - 1;
}

template <class T>
static long long likeliest(const Sampling<T>& q) {
  const long size = q.decoder.outputs;
  const T *logits = q.decoder.y, most = largest(logits, size);
  bool real = most - most == 0;
  for (long i = 0; i < size; ++i) real &= logits[i] == logits[i];
  long best = 0;
  while (best + 1 < size && !(logits[best] == most)) ++best;
  return real ? best : -1;
}

template <class T>
static void sample(const Sampling<T>& q, const Worker& w) {
  const LinearLayer<T> decoder(q.decoder, q.decoder_work, true);
  const bool greedy = q.temperature == 0, share = !greedy && w.size > 1 && q.blocks >= 16;  // fewer do not pay a barrier
  const Share mine(q.blocks, share ? w : Worker{0, 1, w.shared});
  for (long i = 0; i < q.count; ++i) {
    for (long l = 0; l < q.layers; ++l)
      if (q.layer)
        q.step(q.layer[l], q.work[l], w);
      else
        q.interpret(q.interpreted[l], q.work[l], w);
    decoder.row(w);
    if (!w.barrier()) return;
    if (!greedy && (share || w.rank == 0)) weigh(q, mine);
    if (share && !w.barrier()) return;
    if (w.rank == 0) {
      const long long token = greedy ? likeliest(q) : pick(q, q.u[i]);
      if (token >= 0) *q.token = q.sampled[i] = token, *q.done = i + 1;
      if (q.embedding) *q.x = q.embedding + *q.token * q.embedded;
      for (long f = 0; f < q.states; ++f) copy(q.before[f], q.after[f], q.padded);
    }
    if (!w.go_on() || !w.barrier() || *q.done == i) return;
  }
}

}  // namespace unrolled::UNROLLED_ISA
