// The sizes of a layer's scan, and where its states and gates lie: what both directions share.
#pragma once

#include "kernels.h"
#include "panels.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

template <class T, class C>
struct Sizes {
  static constexpr int width = W<T>;
  const Layer<T>& q;
  const long batch, steps, rows, hidden, panels, padded, columns;
  const Operands form;  // of products
  explicit Sizes(const Layer<T>& q_)
      : q(q_), batch(q_.batch), steps(q_.steps), rows(q_.steps * q_.batch), hidden(q_.hidden),
        panels((q_.hidden + width - 1) / width), padded(panels * width), columns(C::OPERAND_WIDTH * q_.hidden),
        form(operands_of<T>(q_.rounds)) {}

  // Words of so many numbers; and, as the left operand of a product, of rows of them: whole vectors.
  long words_of(long n) const { return words(form, n); }
  long row_of_words(long n) const { return (words_of(n) + width - 1) / width * width; }

  T* state(int field, long t) const {
    const long slot = q.record || field == 0 ? t : t & 1;
    return q.states[field] + slot * batch * padded;
  }
  // The gates of a unit's vector; in the tape they lie as the scan meets them: (T, P, B, gates, W).
  T* slot(long t, long panel, long b) const { return q.gates + ((t * panels + panel) * batch + b) * C::GATES * width; }

  // Steps taken at a time, so that what a row keeps between one product and the next stays in the second-level cache:
  // as many as have about `bytes` of it, and no fewer than `least` rows. All spans are of about the same length.
  long span_of(long bytes, long least) const {
    const long fit = bytes / long(C::ROWS * padded * sizeof(T)), rows = fit < least ? least : fit;
    const long wanted = batch == 0 || rows < batch ? 1 : rows / batch, spans = (steps + wanted / 2) / wanted;
    return spans < 2 ? (steps ? steps : 1) : (steps + spans - 1) / spans;
  }
};

// The groups of a step's product: where threads share them, at least one for each thread if there are panels enough.
template <class T>
static Groups<T> scan_groups(const Layer<T>& q, long per) {
  return Groups<T>(q.hidden, per, q.by_panels ? q.threads : 1, vectors_of(q.form_hh.form));
}

}  // namespace unrolled::UNROLLED_ISA
