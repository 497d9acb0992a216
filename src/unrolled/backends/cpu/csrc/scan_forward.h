// The recurrence: a layer's whole sequence forward, for any cell that the emitter wrote.
#pragma once

#include "kernels.h"
#include "panels.h"
#include "pieces.h"
#include "scan_sizes.h"
#include "simd.h"
#include "small.h"
#include "team.h"
#include "tile.h"

namespace unrolled::UNROLLED_ISA {

template <class T, class C>
struct Forward : Sizes<T, C> {
  using Sizes<T, C>::q;
  using Sizes<T, C>::width;
  Groups<T> inputs;                 // columns of the product of the inputs
  Groups<T> groups[C::STAGES];      // of each stage's product
  T* packed_ih;                     // (group, I, vectors, W)
  T* packed_hh[C::STAGES][C::MAX_OPERANDS];  // (group, H, vectors, W)
  T* bias_ih;                       // (P, R, W)
  T* bias_hh[C::STAGES];            // (P, rows of the stage, W)
  T *scale_ih, *scale_hh[C::STAGES];  // as the biases, of weights in int8; else unused
  SmallRows<T> rounded;              // (threads, operands, B) what is multiplied with weights of fewer bits
  T* params;                        // (P, number, W)
  T* values;                        // (number, B, Hp): what a stage hands to the next
  T* table;                         // (P, V, R, W): pre-activations by token; null without a table
  Operands x_form;                  // of the inputs' product; tokens pick columns, which are copied
  T* left_x;                        // (copies, span B, row of words) inputs as operands, where they are rounded; else unused
  T* left;                          // (copies, operands, B, row of words) what a step multiplies; a copy for each of those
                                    // threads that share the units
  long span;                        // steps whose inputs are multiplied at a time
  T* ax;                            // (P, span B, R, W): their pre-activations; null with a table
  size_t bytes;

  Forward(const Layer<T>& layer, char* work) : Sizes<T, C>(layer), inputs(layer.hidden, C::ROWS, 1, vectors_of(layer.form_ih.form)) {
    Pieces p(work);
    x_form = q.tokens ? Operands::WHOLE : this->form;
    packed_ih = p.template take<T>(packed_size(inputs, words(x_form, q.inputs), q.form_ih.form));
    scale_ih = p.template take<T>(q.form_ih.scale ? this->padded * C::ROWS : 0);
    if (q.form_ih.form != Form::WHOLE || q.form_hh.form != Form::WHOLE)
      rounded = SmallRows<T>(p, q.threads * C::MAX_OPERANDS * this->batch, q.inputs > q.hidden ? q.inputs : q.hidden);
    bias_ih = p.template take<T>(this->padded * C::ROWS);
    params = p.template take<T>(this->padded * C::PARAMS);
    values = p.template take<T>(C::MAX_VALUES * this->batch * this->padded);
    T* rows_by_token = p.template take<T>(q.table ? this->padded * C::ROWS * q.inputs : 0);
    table = q.table ? rows_by_token : nullptr;
    span = this->span_of(256 * 1024, 48);
    ax = p.template take<T>(q.table ? 0 : span * this->batch * C::ROWS * this->padded);
    for (int s = 0; s < C::STAGES; ++s) {
      groups[s] = scan_groups(q, C::rows[s]);
      bias_hh[s] = p.template take<T>(this->padded * C::rows[s]);
      for (int j = 0; j < C::operands[s]; ++j)
        packed_hh[s][j] = p.template take<T>(packed_size(groups[s], this->words_of(q.hidden), q.form_hh.form));
      scale_hh[s] = p.template take<T>(q.form_hh.scale ? this->padded * C::rows[s] : 0);
    }
    const long copies = !q.rounds ? 0 : q.by_panels ? q.threads : 1;
    left_x = p.template take<T>(x_form == Operands::WHOLE ? 0 : copies * span * this->batch * this->row_of_words(q.inputs));
    left = p.template take<T>(copies * left_size());
    bytes = p.used;
  }

  long left_size() const { return C::MAX_OPERANDS * this->batch * this->row_of_words(q.hidden); }
  long rank_of(const Worker& w) const { return q.by_panels ? w.rank : 0; }

  long rounded_row(int operand, long b, const Worker& w) const { return (w.rank * C::MAX_OPERANDS + operand) * this->batch + b; }

  // The rows [first, ...) of a weight's scales.
  static Rounding<T> from_row(const Rounding<T>& form, long first) { return {form.form, form.scale ? form.scale + first : nullptr}; }

  void pack_columns(T* to, const T* weight, long ld, long depth, const Groups<T>& g, const Share& mine, const Rounding<T>& small,
                    Operands operands) const {
    if (operands == Operands::WHOLE) return pack_weight(to, weight, ld, q.hidden, depth, g, mine.first, mine.last, small);
    pack_transposed(to, weight, ld, q.hidden, depth, g, mine.first, mine.last, operands);
  }

  void pack(const Worker& w) const {
    const Share mine(inputs.count, w);
    if (!q.tokens || q.table) pack_columns(packed_ih, q.weight_ih, q.inputs, q.inputs, inputs, mine, q.form_ih, x_form);
    for (int s = 0; s < C::STAGES; ++s) {
      const Share part(groups[s].count, w);
      for (int j = 0; j < C::operands[s]; ++j)
        pack_columns(packed_hh[s][j], q.weight_hh + C::row_start[s] * q.hidden * this->columns + j * q.hidden, this->columns,
                     q.hidden, groups[s], part, from_row(q.form_hh, C::row_start[s] * q.hidden), this->form);
    }
    if (w.rank != w.size - 1) return;
    pack_units(bias_ih, q.bias_ih, C::ROWS, q.hidden);
    if (q.form_ih.scale) pack_units(scale_ih, q.form_ih.scale, C::ROWS, q.hidden);
    if (C::PARAMS) pack_units(params, q.params, C::PARAMS, q.hidden);
    for (int s = 0; s < C::STAGES; ++s)
      pack_units(bias_hh[s], q.bias_hh ? q.bias_hh + C::row_start[s] * q.hidden : nullptr, C::rows[s], q.hidden);
    for (int s = 0; q.form_hh.scale && s < C::STAGES; ++s)
      pack_units(scale_hh[s], q.form_hh.scale + C::row_start[s] * q.hidden, C::rows[s], q.hidden);
  }

  T* input(long panel, long t, long b) const {
    return ax + ((panel * span + t % span) * this->batch + b) * C::ROWS * width;
  }

  // Pre-activations of the inputs of steps [first, last), rows of the batch, groups of columns: x Wih^T + bih. One-hot
  // inputs meet no product: a table has a row for every token, or (a text shorter than that) columns are read as they are.
  void input_product(long first, long last, const Share& rows, const Share& columns, const Worker& w) const {
    struct Axis {
      long count, step;  // rows, and how far apart they are
    };
    const long steps = last - first, count = rows.last - rows.first;
    const bool whole = x_form == Operands::WHOLE;
    const T* x = whole ? q.x + first * this->batch * q.x_row : write_inputs(first, last, rows, w);
    const long x_row = whole ? q.x_row : this->row_of_words(q.inputs), depth = words(x_form, q.inputs);
    Axis inner = {count, 1}, outer = {steps, this->batch};  // tiles run along the longer of the two
    if (count == this->batch)
      inner = {steps * count, 1}, outer = {1, 0};
    else if (steps > count)
      inner = {steps, this->batch}, outer = {count, 1};
    for (long g = columns.first; g < columns.last; ++g) {
      const int vectors = inputs.vectors(g);
      const Cut cut(0, inner.count, tile_rows(vectors));
      Tile<T> tile = {};
      tile.lda = inner.step * x_row, tile.segments = 1, tile.length = depth;
      tile.w = packed_ih + inputs.packed(g, depth);
      tile.ldo = inner.step * C::ROWS * width;
      tile.start = bias_ih + inputs.first(g) * C::ROWS * width;
      tile.next = inputs.next(packed_ih, g, depth);
      for (int v = 0; v < vectors; ++v)
        tile.offset[v] = (v / C::ROWS) * span * this->batch * C::ROWS * width + v % C::ROWS * width;
      for (long o = 0; o < outer.count; ++o)
        for (long i = 0; i < cut.tiles; ++i) {
          const long row = rows.first + o * outer.step + cut.at(i) * inner.step, n = cut.at(i + 1) - cut.at(i);
          if (q.tokens) {
            for (long r = row; r < row + n * inner.step; r += inner.step) gather(first, r, g);
            continue;
          }
          tile.fetch(o * cut.tiles + i, vectors);
          tile.a = x + row * x_row;
          tile.out = input(inputs.first(g), first, row);
          tile_function<T, false>(int(n), vectors, x_form)(tile);
        }
    }
  }

  // Inputs of those steps as operands: rows (T B, row of words).
  NOINLINE const T* write_inputs(long first, long last, const Share& rows, const Worker& w) const {
    const long row_of = this->row_of_words(q.inputs);
    T* to = left_x + rank_of(w) * span * this->batch * row_of;
    for (long t = first; t < last; ++t)
      for (long b = rows.first; b < rows.last; ++b)
        write_words(x_form, to + ((t - first) * this->batch + b) * row_of, q.x + (t * this->batch + b) * q.x_row, q.inputs);
    return to;
  }

  // The operands of stage S, rows (operand, B, row of words); null where they are multiplied as they are.
  template <int S>
  NOINLINE const T* write_operands(long t, const Share& rows, const Worker& w) const {
    if (!q.rounds) return nullptr;
    const long row_of = this->row_of_words(q.hidden);
    T* to = left + rank_of(w) * left_size();
    for (int j = 0; j < C::operands[S]; ++j)
      for (long b = rows.first; b < rows.last; ++b)
        write_words(this->form, to + (j * this->batch + b) * row_of, operand<S>(t, j) + b * this->padded, q.hidden);
    return to;
  }

  // The same for one step and weights of fewer bits.
  NOINLINE void small_input(const Share& rows, const Share& columns, const Worker& w) const {
    alignas(64) T sums[MAX_VECTORS * width];
    const Form form = q.form_ih.form;
    for (long b = rows.first; b < rows.last; ++b) rounded.set(rounded_row(0, b, w), form, q.x + b * q.x_row, q.inputs);
    for (long g = columns.first; g < columns.last; ++g)
      for (long b = rows.first; b < rows.last; ++b) {
        const long from = inputs.first(g) * C::ROWS * width;
        multiply_small(form, rounded[rounded_row(0, b, w)], packed_ih, inputs, g, q.inputs, sums, bias_ih + from, scale_ih + from);
        for (long panel = inputs.first(g); panel < inputs.first(g + 1); ++panel)
          copy(input(panel, 0, b), sums + (panel - inputs.first(g)) * C::ROWS * width, C::ROWS * width);
      }
  }

  // A row of the packed weights is a column of Wih.
  void fill_table(const Share& mine) const {
    for (long g = 0; g < inputs.count; ++g) {
      const int vectors = inputs.vectors(g);
      const T* packed = packed_ih + inputs.packed(g, q.inputs);
      for (long token = mine.first; token < mine.last; ++token)
        for (int v = 0; v < vectors; ++v) {
          const long panel = inputs.first(g) + v / C::ROWS, gate = v % C::ROWS;
          store(table + ((panel * q.inputs + token) * C::ROWS + gate) * width,
                load(packed + (token * vectors + v) * width) + load(bias_ih + (panel * C::ROWS + gate) * width));
        }
    }
  }

  // Row `row` of the span that begins at step `first`.
  void gather(long first, long row, long g) const {
    const long token = q.tokens[first * this->batch + row];
    for (long panel = inputs.first(g); panel < inputs.first(g + 1); ++panel)
      for (int gate = 0; gate < C::ROWS; ++gate) {
        Vec<T> column = {};
        for (long i = 0; i < width && panel * width + i < q.hidden; ++i)
          column[i] = q.weight_ih[(gate * q.hidden + panel * width + i) * q.inputs + token];
        store(input(panel, first, row) + gate * width, column + load(bias_ih + (panel * C::ROWS + gate) * width));
      }
  }

  // The elementwise map of stage S for W units of row b; or (V is Two) of two such vectors, the second one in row b + 1 or
  // (ACROSS) in the next panel, without masks. ah are the products' sums, the second vector's `next_sums` further on.
  template <int S, class V, bool ACROSS = false>
  INLINE void finish(const Forward& f, long t, long b, long panel, const T* ah_sums, long next_sums) {
    typedef At<V> at;
    constexpr bool one = sizeof(V) == sizeof(Vec<T>), last = S + 1 == C::STAGES;
    const Layer<T>& q = f.q;
    const long row = t * f.batch + b, unit = b * f.padded + panel * width, values_step = f.batch * f.padded;
    const T* inputs = f.table ? f.table + (panel * q.inputs + q.tokens[row]) * C::ROWS * width : f.input(panel, t, b);
    long next_inputs = C::ROWS * width;
    if constexpr (!one) {
      if (ACROSS)
        next_inputs *= f.table ? q.inputs : f.span * f.batch;
      else if (f.table)
        next_inputs *= q.tokens[row + 1] - q.tokens[row];
    }
    const long next_unit = ACROSS ? width : f.padded, next_params = ACROSS ? C::PARAMS * width : 0;
    const long next_slot = (ACROSS ? f.batch : 1) * C::GATES * width;
    V ax[C::rows[S]], ah[C::rows[S]], s[C::STATES], p[C::PARAMS + 1] = {}, earlier[C::MAX_VALUES + 1] = {};
    V out[(C::STATES > C::MAX_VALUES ? C::STATES : C::MAX_VALUES)], gates[C::GATES + 1];
#pragma GCC unroll 8
    for (int i = 0; i < C::rows[S]; ++i) {
      ax[i] = at::read(inputs + (C::row_start[S] + i) * width, next_inputs);
      ah[i] = at::read(ah_sums + i * width, next_sums);
    }
#pragma GCC unroll 4
    for (int i = 0; i < C::STATES; ++i) s[i] = at::read(f.state(i, t) + unit, next_unit);
#pragma GCC unroll 4
    for (int i = 0; i < C::PARAMS; ++i) p[i] = at::read(f.params + (panel * C::PARAMS + i) * width, next_params);
    if (S > 0)
#pragma GCC unroll 8
      for (int i = 0; i < C::values[S > 0 ? S - 1 : 0]; ++i) earlier[i] = at::read(f.values + i * values_step + unit, next_unit);
    C::template forward<S>(ax, ah, s, earlier, p, out, gates);
    if (!last) {
#pragma GCC unroll 8
      for (int i = 0; i < C::values[S]; ++i) at::write(f.values + i * values_step + unit, next_unit, out[i]);
      return;
    }
    if (q.record)
#pragma GCC unroll 8
      for (int i = 0; i < C::GATES; ++i) at::write(f.slot(t, panel, b) + i * width, next_slot, gates[i]);
    if constexpr (one) {
      masked(f, t, b, panel, s, out);
    } else {
#pragma GCC unroll 4
      for (int i = 0; i < C::STATES; ++i) at::write(f.state(i, t + 1) + unit, next_unit, out[i]);
    }
  }

  template <int S>
  static NOINLINE void finish_one(const Forward& f, long t, long b, long panel, const T* ah_sums) {
    finish<S, Vec<T>>(f, t, b, panel, ah_sums, 0);
  }

  // Stores a row's new state as its masks have it.
  INLINE void masked(const Forward& f, long t, long b, long panel, const Vec<T>* s, Vec<T>* out) {
    typedef Vec<T> V;
    const Layer<T>& q = f.q;
    const long row = t * f.batch + b, unit = b * f.padded + panel * width;
    const bool live = !q.live || q.live[row];
#pragma GCC unroll 4
    for (int i = 0; i < C::STATES; ++i) {
      if (q.proposed[i]) store(q.proposed[i] + t * f.batch * f.padded + unit, out[i]);
      if (q.keep[i]) out[i] = select(byte_mask<T>(q.keep[i] + row * q.hidden + panel * width, q.hidden - panel * width), s[i], out[i]);
      store(f.state(i, t + 1) + unit, live ? out[i] : s[i]);
    }
    if (q.y) store(q.y + t * f.batch * f.padded + unit, live ? out[0] : V{});
  }

  // Lets the cache fetch where rows [row, end) will write, while the product runs.
  INLINE void expect(const Forward& f, long t, long row, long end, long first, long panels) {
    for (long panel = first; panel < first + panels; ++panel)
      for (long b = row; b < end; ++b) {
        for (int i = 0; f.q.record && i < C::GATES; ++i) __builtin_prefetch(f.slot(t, panel, b) + i * width, 1);
        for (int i = 0; i < C::STATES; ++i) __builtin_prefetch(f.state(i, t + 1) + b * f.padded + panel * width, 1);
      }
  }

  // The product of stage S for a group of columns: where its sums go and how it begins; each tile of rows completes it.
  template <int S>
  Tile<T> tile_of(long g, T* sums) const {
    Tile<T> tile = {};
    tile.lda = q.rounds ? this->row_of_words(q.hidden) : this->padded;
    tile.segments = 1, tile.length = this->words_of(q.hidden);
    tile.out = sums, tile.ldo = groups[S].vectors(g) * width;
    tile.start = bias_hh[S] + groups[S].first(g) * C::rows[S] * width;
    for (int v = 0; v < groups[S].vectors(g); ++v) tile.offset[v] = v * width;
    return tile;
  }

  template <int S>
  const T* operand(long t, int j) const {
    const int from = C::operand[S][j];
    return from < C::STATES ? this->state(from, t) : values + (from - C::STATES) * this->batch * this->padded;
  }

  // Rows [row, end) of that product, which are tile number i's.
  template <int S>
  INLINE void multiply(const Forward& f, Tile<T>& tile, const T* words_at, long t, long g, int vectors, long i, long row, long end) {
    const long depth = tile.length;
    if (C::operands[S] == 0)
      for (long r = 0; r < end - row; ++r) copy(tile.out + r * tile.ldo, tile.start, tile.ldo);
    for (int j = 0; j < C::operands[S]; ++j) {
      tile.a = (words_at ? words_at + j * f.batch * tile.lda : f.template operand<S>(t, j)) + row * tile.lda;
      tile.w = f.packed_hh[S][j] + f.groups[S].packed(g, depth);
      tile.add = j > 0;
      tile.next = f.groups[S].next(f.packed_hh[S][j], g, depth);
      tile.fetch(i, vectors);
      tile_function<T, false>(int(end - row), vectors, f.form)(tile);
    }
  }

  template <int S>
  void stage(long t, const Share& rows, const Share& mine, const Worker& w) const {
    alignas(64) T sums[MAX_ROWS * MAX_VECTORS * width];
    const T* words_at = write_operands<S>(t, rows, w);
    const bool small = q.form_hh.form != Form::WHOLE;
    if (small) small_operands<S>(t, rows, w);
    for (long g = mine.first; g < mine.last; ++g) {
      const int vectors = groups[S].vectors(g);
      const long first = groups[S].first(g), panels = vectors / C::rows[S];
      const Cut cut(rows.first, rows.last, tile_rows(vectors));
      Tile<T> tile = tile_of<S>(g, sums);
      for (long i = 0; i < cut.tiles; ++i) {
        const long row = cut.at(i), end = cut.at(i + 1);
        if (S + 1 == C::STAGES) expect(*this, t, row, end, first, panels);
        if (small)
          for (long b = row; b < end; ++b) multiply_small_row<S>(b, g, sums + (b - row) * tile.ldo, w);
        else
          multiply<S>(*this, tile, words_at, t, g, vectors, i, row, end);
        for (long p = 0; p < panels; ++p) {
          const T* ah = sums + p * C::rows[S] * width;
          long b = row;
          for (; q.plain && b + 1 < end; b += 2)
            finish<S, Two<Vec<T>>>(*this, t, b, first + p, ah + (b - row) * tile.ldo, tile.ldo);
          for (; b < end; ++b) finish_one<S>(*this, t, b, first + p, ah + (b - row) * tile.ldo);
        }
      }
    }
  }

  // The operands of stage S, for weights of fewer bits.
  template <int S>
  NOINLINE void small_operands(long t, const Share& rows, const Worker& w) const {
    for (int j = 0; j < C::operands[S]; ++j)
      for (long b = rows.first; b < rows.last; ++b)
        rounded.set(rounded_row(j, b, w), q.form_hh.form, operand<S>(t, j) + b * this->padded, q.hidden);
  }

  // Row b's product of that stage with those.
  template <int S>
  NOINLINE void multiply_small_row(long b, long g, T* sums, const Worker& w) const {
    const long first = groups[S].first(g) * C::rows[S] * width;
    const T* start = bias_hh[S] + first;
    if (C::operands[S] == 0) copy(sums, start, groups[S].vectors(g) * width);
    for (int j = 0; j < C::operands[S]; ++j, start = sums)
      multiply_small(q.form_hh.form, rounded[rounded_row(j, b, w)], packed_hh[S][j], groups[S], g, q.hidden, sums, start, scale_hh[S] + first);
  }

  // Lets the cache fetch what stage S reads of a token's row of the table, while the product runs.
  template <int S>
  void expect_table(long t, long first, long panels) const {
    for (long panel = first; panel < first + panels; ++panel)
      for (int i = 0; i < C::rows[S]; ++i)
        __builtin_prefetch(table + ((panel * q.inputs + q.tokens[t]) * C::ROWS + C::row_start[S] + i) * width);
  }

  // The same as `stage` for a single row: two panels side by side take the place of two rows.
  template <int S>
  void stage_of_row(long t, const Share& mine, const Worker& w) const {
    alignas(64) T sums[2 * MAX_VECTORS * width];
    constexpr long per = C::rows[S] * width;
    const bool small = q.form_hh.form != Form::WHOLE;
    if (small) small_operands<S>(t, Share(0L, 1L), w);
    const T* words_at = write_operands<S>(t, Share(0L, 1L), w);
    long first = groups[S].first(mine.first), count = 0;  // panels whose sums are there
    for (long g = mine.first; g < mine.last; ++g) {
      const int vectors = groups[S].vectors(g);
      if (table) expect_table<S>(t, groups[S].first(g), vectors / C::rows[S]);
      if (small) {
        multiply_small_row<S>(0, g, sums + count * per, w);
      } else {
        Tile<T> tile = tile_of<S>(g, sums + count * per);
        multiply<S>(*this, tile, words_at, t, g, vectors, 0, 0, 1);
      }
      count += vectors / C::rows[S];
      if (count == 1 && g + 1 < mine.last) continue;
      long p = 0;
      for (; p + 1 < count; p += 2) finish<S, Two<Vec<T>>, true>(*this, t, 0, first + p, sums + p * per, per);
      for (; p < count; ++p) finish_one<S>(*this, t, 0, first + p, sums + p * per);
      first += count, count = 0;
    }
  }

  template <int S>
  bool stages(long t, const Share& rows, const Worker& w) const {
    if constexpr (S < C::STAGES) {
      const Worker one = {0, 1, w.shared};
      const Share mine(groups[S].count, q.by_panels ? w : one);
      if (this->batch == 1 && q.plain)
        stage_of_row<S>(t, mine, w);
      else
        stage<S>(t, rows, mine, w);
      if (q.by_panels && !w.barrier()) return false;
      return stages<S + 1>(t, rows, w);
    }
    return true;
  }

  // What does not depend on the inputs and the states.
  NOINLINE bool prepare(const Worker& w) const {
    pack(w);
    if (!w.barrier()) return false;
    if (!q.table) return true;
    fill_table(Share(q.inputs, w));
    return w.barrier();
  }

  void run(const Worker& w) const {
    const Worker one = {0, 1, w.shared};
    const Share rows(this->batch, q.by_panels ? one : w), columns(inputs.count, q.by_panels ? w : one);
    for (long t = 0; t < this->steps; ++t) {
      if ((t % 4 == 0 || t % span == 0) && !w.go_on()) return;
      if (!q.table && t % span == 0) {
        if (q.form_ih.form != Form::WHOLE)
          small_input(rows, columns, w);
        else
          input_product(t, t + span < this->steps ? t + span : this->steps, rows, columns, w);
        if (q.by_panels && !w.barrier()) return;
      }
      if (!stages<0>(t, rows, w)) return;
    }
  }
};

}  // namespace unrolled::UNROLLED_ISA
