// Sampling tokens one after the other from a language network, in one call.
#pragma once

#include <math.h>

#include "kernels.h"
#include "linear.h"
#include "math.h"
#include "simd.h"
#include "team.h"

namespace unrolled::UNROLLED_ISA {

// One row's logits, and what a token is picked by.
template <class T>
struct Picked {
  const Sampling<T>& q;
  const T* logits;
  double *weights, *sums;  // of the blocks

  // Those of a thread that picks alone, or (of one row) of all together.
  Picked(const Sampling<T>& q_, long row, int rank)
      : q(q_), logits(q.decoder.y + row * q.decoder.y_row), weights(q.weights + rank * q.blocks * PICK_BLOCK), sums(q.sums + rank * q.blocks) {}

  // The weights e^((logit - largest) / temperature) of some blocks, and each block's sum.
  void weigh(const Share& blocks) const {
    const long size = q.decoder.outputs;
    const T most = largest(logits, size);
    for (long block = blocks.first; block < blocks.last; ++block) {
      const long first = block * PICK_BLOCK, end = first + PICK_BLOCK, last = end < size ? end : size;
      for (long i = first; i < last; ++i) weights[i] = double(logits[i] - most);
      for (long i = last; i < end; ++i) weights[i] = -INFINITY;
      if (q.temperature != 1)
        for (long i = first; i < end; ++i) weights[i] /= q.temperature;
      D total = {};
      for (long i = first; i < end; i += W<double>) {
        const D e = exp(load(weights + i));
        store(weights + i, e);
        total += e;
      }
      sums[block] = sum_of_lanes<double>(total);
    }
  }

  // The first index whose cumulated weight exceeds u times the sum of all; the rule is that of models/sampling.py. -1 where
  // the largest logit is infinite or one is NaN: then so is the sum.
  long long pick(double u) const {
    const long size = q.decoder.outputs;
    double total = 0, before = 0;
    for (long block = 0; block < q.blocks; ++block) total += sums[block];
    if (!(total < INFINITY)) return -1;
    const double limit = u * total;
    for (long block = 0; block < q.blocks; ++block) {
      const double after = before + sums[block];
      if (after > limit) {
        long last = block * PICK_BLOCK;  // that has any weight: added up one by one, the block may round to the limit itself
        for (long i = last; i < (block + 1) * PICK_BLOCK && i < size; ++i) {
          before += weights[i];
          if (weights[i] > 0) last = i;
          if (before > limit) return i;
        }
        return last;
      }
      before = after;
    }
    return size - 1;
  }

  long long likeliest() const {
    const long size = q.decoder.outputs;
    const T most = largest(logits, size);
    bool real = most - most == 0;
    for (long i = 0; i < size; ++i) real &= logits[i] == logits[i];
    long best = 0;
    while (best + 1 < size && !(logits[best] == most)) ++best;
    return real ? best : -1;
  }
};

// What a row reads at the next step: its token, and the state that this one left.
template <class T>
static void feed(const Sampling<T>& q, long row, long long token) {
  q.tokens[row] = token;
  if (q.embedding) copy(q.inputs + row * q.embedded, q.embedding + token * q.embedded, q.embedded);
  for (long f = 0; f < q.states; ++f) copy(q.before[f] + row * q.padded, q.after[f] + row * q.padded, q.padded);
}

// Token i of some rows, each by this thread alone, or weighed already.
template <class T>
static void draw(const Sampling<T>& q, const Share& rows, long i, int rank, bool weighed) {
  for (long row = rows.first; row < rows.last; ++row) {
    const Picked<T> picked(q, row, rank);
    const double u = q.u[row * q.count + i];
    if (!weighed && q.temperature != 0 && u >= 0) picked.weigh(Share(0L, q.blocks));
    const long long token = u < 0 ? 0 : q.temperature == 0 ? picked.likeliest() : picked.pick(u);
    if (token < 0) return __atomic_store_n(q.failed, 1, __ATOMIC_RELAXED);
    q.sampled[row * q.count + i] = token;
    feed(q, row, token);
  }
}

template <class T>
static void sample(const Sampling<T>& q, const Worker& w) {
  const LinearLayer<T> decoder(q.decoder, q.decoder_work, true);
  const bool one = q.rows == 1;
  const bool share = one && q.temperature != 0 && w.size > 1 && q.blocks >= 16;  // fewer do not pay a barrier
  const Share mine = one ? Share(0L, w.rank == 0) : Share(q.rows, w);
  for (long i = 0; i < q.count; ++i) {
    for (long l = 0; l < q.layers; ++l) {
      if (q.layer)
        q.step(q.layer[l], q.work[l], w);
      else
        q.interpret(q.interpreted[l], q.work[l], w);
      if (!one && !w.barrier()) return;  // what reads these rows next may be another thread
    }
    decoder.some_rows(w);
    if (!w.barrier()) return;
    if (share) Picked<T>(q, 0, 0).weigh(Share(q.blocks, w));
    if (share && !w.barrier()) return;
    draw(q, mine, i, one ? 0 : w.rank, share);
    if (!w.go_on() || !w.barrier() || __atomic_load_n(q.failed, __ATOMIC_RELAXED)) return;
  }
}

}  // namespace unrolled::UNROLLED_ISA
