// The recurrence: a layer's whole sequence backward, for any cell that the emitter wrote.
#pragma once

#include "kernels.h"
#include "panels.h"
#include "pieces.h"
#include "scan_gradients.h"
#include "scan_sizes.h"
#include "simd.h"
#include "team.h"
#include "tile.h"

namespace unrolled::UNROLLED_ISA {

template <class T, class C>
struct Backward : Gradients<T, C> {
  using Gradients<T, C>::q;
  using Gradients<T, C>::width;
  using Gradients<T, C>::span;
  static constexpr int LAST = C::STAGES - 1;

  Groups<T> groups;                 // hidden units, the columns of dG U
  T* packed_hh[C::STAGES][C::MAX_OPERANDS];  // (group, rows H, vectors, W)
  T* params;                        // (P, number, W)
  T* dvalues;                       // (number, B, Hp) gradient of what a stage handed on
  T* dparams;                       // (number, B, Hp) gradients of the per-unit parameters, each row's sum over time
  size_t bytes;

  Backward(const Layer<T>& layer, char* work) : Backward(layer, Pieces(work)) {}

  Backward(const Layer<T>& layer, Pieces p) : Gradients<T, C>(layer, p), groups(scan_groups(layer, 1)) {
    params = p.template take<T>(this->padded * C::PARAMS);
    dvalues = p.template take<T>(C::MAX_VALUES * this->batch * this->padded);
    dparams = p.template take<T>(C::PARAMS * this->batch * this->padded);
    for (int s = 0; s < C::STAGES; ++s)
      for (int j = 0; j < C::operands[s]; ++j) packed_hh[s][j] = p.template take<T>(groups.size(this->depth_of_gates(C::rows[s])));
    bytes = p.used;
  }

  // Where row b of step t lies among the rows of its span.
  long row_of(long t, long b) const { return t % span * this->batch + b; }

  void pack(const Worker& w) const {
    for (int s = 0; s < C::STAGES; ++s) {
      const long depth = this->depth_of_gates(C::rows[s]);
      const Share mine(depth, w);
      for (int j = 0; j < C::operands[s]; ++j) {
        const T* weights = q.weight_hh + C::row_start[s] * q.hidden * this->columns + j * q.hidden;
        pack_rows(packed_hh[s][j], [&](long k) { return this->weight_row(weights, this->columns, k, C::rows[s]); }, q.hidden, depth,
                  groups, mine.first, mine.last, this->form);
      }
    }
    if (w.rank != w.size - 1) return;
    if (C::PARAMS) pack_units(params, q.params, C::PARAMS, q.hidden);
    for (long i = 0; i < C::PARAMS * this->batch * this->padded; ++i) dparams[i] = 0;
  }

  // out (B, Hp) += dG(t) U: the gradient of stage `s` at step t times the weights of its operand j.
  void product(T* out, int s, int j, long t, const Share& rows, long g) const {
    const int vectors = groups.vectors(g);
    const Cut cut(rows.first, rows.last, tile_rows(vectors));
    Tile<T> tile = {};
    tile.lda = C::ROWS * this->lane_words();
    tile.ldo = this->padded, tile.add = true;
    for (int v = 0; v < vectors; ++v) tile.offset[v] = v * width;
    this->over_gates(*this, tile, C::rows[s], groups, g, packed_hh[s][j], [&](long panel) {
      for (long i = 0; i < cut.tiles; ++i) {
        const long row = cut.at(i);
        tile.fetch(i, vectors);
        tile.a = this->dah_words + panel * this->step_of_words() + row_of(t, row) * tile.lda + C::row_start[s] * this->lane_words();
        tile.out = out + row * this->padded + groups.first(g) * width;
        tile_function<T, false>(int(cut.at(i + 1) - row), vectors, this->form)(tile);
      }
    });
  }

  // The elementwise backward map of stage S for W units of row b; or (V is Two) of two such vectors, as in Forward.
  template <int S, class V, bool ACROSS = false>
  INLINE void finish(const Backward& f, long t, long b, long panel) {
    typedef At<V> at;
    constexpr bool one = sizeof(V) == sizeof(Vec<T>), last = S == LAST;
    const Layer<T>& q = f.q;
    const long row = t * f.batch + b, unit = b * f.padded + panel * width, left = q.hidden - panel * width;
    const long field_step = f.batch * f.padded;
    const long next_unit = ACROSS ? width : f.padded, next_params = ACROSS ? C::PARAMS * width : 0;
    const long next_place = ACROSS ? f.step_of_panel() : C::ROWS * width, next_slot = (ACROSS ? f.batch : 1) * C::GATES * width;
    const long next_dy = ACROSS ? width : q.dy_row, next_left = ACROSS ? left - width : left;
    const long place = panel * f.step_of_panel() + (f.row_of(t, b) * C::ROWS + C::row_start[S]) * width;
    T *da_x = f.dax + place, *da_h = f.dah + place;
    const bool live = !q.live || q.live[row];
    constexpr int inputs = last ? C::STATES : C::values[S];
    V d[inputs], passed[C::STATES] = {};
#pragma GCC unroll 8
    for (int i = 0; i < inputs; ++i) d[i] = at::read((last ? q.dstate[i % C::STATES] : f.dvalues + i * field_step) + unit, next_unit);
    if constexpr (one)
      if (!live) {  // nothing passes through the cell
#pragma GCC unroll 8
        for (int i = 0; i < C::rows[S]; ++i) {
          store(da_x + i * width, V{});
          if (C::SPLIT) store(da_h + i * width, V{});
        }
        if (last)
#pragma GCC unroll 4
          for (int i = 0; i < C::STATES; ++i) store(q.dstate[i] + unit, d[i % inputs]);
        for (int i = 0; S > 0 && i < C::values[S > 0 ? S - 1 : 0]; ++i) store(f.dvalues + i * field_step + unit, V{});
        return;
      }
    if (last) {
      d[0] = d[0] + at::read(q.dy + row * q.dy_row + panel * width, next_dy, left, next_left);
      if constexpr (one)
#pragma GCC unroll 4
        for (int i = 0; i < C::STATES; ++i)
          if (q.keep[i]) {
            const auto mask = byte_mask<T>(q.keep[i] + row * q.hidden + panel * width, left);
            passed[i] = select(mask, d[i % inputs], V{});
            d[i % inputs] = select(mask, V{}, d[i % inputs]);
          }
    } else {
#pragma GCC unroll 4
      for (int i = 0; i < C::STATES; ++i) passed[i] = at::read(q.dstate[i] + unit, next_unit);
    }
    V s[C::STATES], next[C::STATES], gates[C::GATES + 1] = {}, p[C::PARAMS + 1] = {};
    V dx[C::rows[S]], dh[C::rows[S]], ds[C::STATES], dv[C::MAX_VALUES + 1], dp[C::PARAMS + 1];
    const T* slot = f.slot(t, panel, b);
#pragma GCC unroll 8
    for (int i = 0; i < C::GATES; ++i) gates[i] = at::read(slot + i * width, next_slot);
#pragma GCC unroll 4
    for (int i = 0; i < C::STATES; ++i) {
      s[i] = at::read(f.state(i, t) + unit, next_unit);
      next[i] = at::read((q.proposed[i] ? q.proposed[i] + t * f.batch * f.padded : f.state(i, t + 1)) + unit, next_unit);
    }
#pragma GCC unroll 4
    for (int i = 0; i < C::PARAMS; ++i) p[i] = at::read(f.params + (panel * C::PARAMS + i) * width, next_params);
    C::template backward<S>(d, gates, s, next, p, dx, dh, ds, dv, dp);
#pragma GCC unroll 8
    for (int i = 0; i < C::rows[S]; ++i) {
      at::write(da_x + i * width, next_place, dx[i]);
      if (C::SPLIT) at::write(da_h + i * width, next_place, dh[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < C::STATES; ++i) at::write(q.dstate[i] + unit, next_unit, passed[i] + ds[i]);
    if (S > 0)
#pragma GCC unroll 8
      for (int i = 0; i < C::values[S > 0 ? S - 1 : 0]; ++i) at::write(f.dvalues + i * field_step + unit, next_unit, dv[i]);
#pragma GCC unroll 4
    for (int i = 0; i < C::PARAMS; ++i) {
      T* total = f.dparams + i * field_step + unit;
      at::write(total, next_unit, at::read(total, next_unit) + dp[i]);
    }
  }

  template <int S>
  static NOINLINE void finish_one(const Backward& f, long t, long b, long panel) {
    finish<S, Vec<T>>(f, t, b, panel);
  }

  // What a stage has written of the gradients of this step's pre-activations, as operands.
  NOINLINE void write_gates(long t, long row_start, long row_blocks, const Share& rows, const Share& mine) const {
    const long lanes = this->lane_words(), count = row_blocks * width;
    for (long panel = groups.first(mine.first); panel < groups.first(mine.last); ++panel)
      for (long b = rows.first; b < rows.last; ++b) {
        const long place = row_of(t, b) * C::ROWS + row_start;
        const long from = panel * this->step_of_panel() + place * width, to = panel * this->step_of_words() + place * lanes;
        write_words(this->form, this->dah_words + to, this->dah + from, count);
        if (C::SPLIT && q.dx) write_words(this->form, this->dax_words + to, this->dax + from, count);
      }
  }

  // Stage S of step t, and on to the stages before it: the map, then what its products hand back.
  template <int S>
  bool stages(long t, const Share& rows, const Share& mine, const Worker& w) const {
    if constexpr (S >= 0) {
      long panel = groups.first(mine.first);
      const long end = groups.first(mine.last);
      if (this->batch == 1 && q.plain)
        for (; panel + 1 < end; panel += 2) finish<S, Two<Vec<T>>, true>(*this, t, 0, panel);
      for (; panel < end; ++panel) {
        long b = rows.first;
        for (; q.plain && b + 1 < rows.last; b += 2) finish<S, Two<Vec<T>>>(*this, t, b, panel);
        for (; b < rows.last; ++b) finish_one<S>(*this, t, b, panel);
      }
      if (q.rounds) write_gates(t, C::row_start[S], C::rows[S], rows, mine);
      if (q.by_panels && !w.barrier()) return false;
      for (long g = mine.first; g < mine.last; ++g)
        for (int j = 0; j < C::operands[S]; ++j) {
          const int to = C::operand[S][j];
          product(to < C::STATES ? q.dstate[to] : dvalues + (to - C::STATES) * this->batch * this->padded, S, j, t, rows, g);
        }
      return stages<S - 1>(t, rows, mine, w);
    }
    return true;
  }

  // The per-unit parameters' gradients, each row's added up.
  void write_params() const {
    for (int i = 0; i < C::PARAMS; ++i)
      for (long unit = 0; unit < q.hidden; ++unit) {
        T total = 0;
        for (long b = 0; b < this->batch; ++b) total += dparams[(i * this->batch + b) * this->padded + unit];
        q.d_params[i * q.hidden + unit] = total;
      }
  }

  void run(const Worker& w) const {
    pack(w);
    this->prepare(w);
    if (!w.barrier()) return;
    if (this->rows == 0) return;  // all gradients are the zeros that the caller put there
    const Worker one = {0, 1, w.shared};
    const Share rows(this->batch, q.by_panels ? one : w), mine(groups.count, q.by_panels ? w : one);
    for (long first = (this->steps - 1) / span * span, last = this->steps; first >= 0; last = first, first -= span) {
      this->pack_operands(first, last, w);
      for (long t = last - 1; t >= first; --t) {
        if ((t % 4 == 0 || t % span == 0) && !w.go_on()) return;
        if (!stages<LAST>(t, rows, mine, w)) return;
      }
      if (!w.barrier() || !this->add_span(first, last, w) || !w.barrier()) return;
    }
    this->write(w);
    if (w.rank == 0) write_params();
  }
};

}  // namespace unrolled::UNROLLED_ISA
