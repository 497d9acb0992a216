// The recurrence: a layer's whole sequence forward, and backward, for any cell that the emitter wrote.
#pragma once

// Hands out 64-byte aligned pieces of the scratch memory; with a null base it only counts.
class Pieces {
  char* base_;

 public:
  size_t used = 0;
  explicit Pieces(char* base) : base_(base) {}
  template <class T>
  T* take(size_t count) {
    T* piece = base_ ? reinterpret_cast<T*>(base_ + used) : nullptr;
    used += (count * sizeof(T) + 127) / 64 * 64;  // a line apart: power-of-two strides would collide in the cache
    return piece;
  }
};

template <class T>
INLINE void copy(T* to, const T* from, long n) {
  for (long i = 0; i < n; ++i) to[i] = from[i];
}

// (number, H) rows -> (P, number, W), zeros in the padding; null gives zeros.
template <class T>
static void pack_units(T* to, const T* rows, long number, long hidden) {
  constexpr int n = W<T>;
  for (long panel = 0; panel * n < hidden; ++panel)
    for (long i = 0; i < number; ++i)
      store(to + (panel * number + i) * n, rows ? load(rows + i * hidden + panel * n, hidden - panel * n) : Vec<T>{});
}

template <class T, class C>
struct Sizes {
  static constexpr int width = W<T>;
  const Layer<T>& q;
  const long batch, steps, rows, hidden, panels, padded, columns;
  explicit Sizes(const Layer<T>& q_)
      : q(q_), batch(q_.batch), steps(q_.steps), rows(q_.steps * q_.batch), hidden(q_.hidden),
        panels((q_.hidden + width - 1) / width), padded(panels * width), columns(C::OPERAND_WIDTH * q_.hidden) {}

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
  return Groups<T>(q.hidden, per, q.by_panels ? q.threads : 1);
}

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
  T* params;                        // (P, number, W)
  T* values;                        // (number, B, Hp): what a stage hands to the next
  T* table;                         // (P, V, R, W): pre-activations by token; null without a table
  long span;                        // steps whose inputs are multiplied at a time
  T* ax;                            // (P, span B, R, W): their pre-activations; null with a table
  size_t bytes;

  Forward(const Layer<T>& layer, char* work) : Sizes<T, C>(layer), inputs(layer.hidden, C::ROWS) {
    Pieces p(work);
    packed_ih = p.template take<T>(inputs.size(q.inputs));
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
      for (int j = 0; j < C::operands[s]; ++j) packed_hh[s][j] = p.template take<T>(groups[s].size(q.hidden));
    }
    bytes = p.used;
  }

  void pack(const Worker& w) const {
    const Share mine(inputs.count, w);
    if (!q.tokens || q.table) pack_transposed(packed_ih, q.weight_ih, q.inputs, q.hidden, q.inputs, inputs, mine.first, mine.last);
    for (int s = 0; s < C::STAGES; ++s) {
      const Share part(groups[s].count, w);
      for (int j = 0; j < C::operands[s]; ++j)
        pack_transposed(packed_hh[s][j], q.weight_hh + C::row_start[s] * q.hidden * this->columns + j * q.hidden, this->columns,
                        q.hidden, q.hidden, groups[s], part.first, part.last);
    }
    if (w.rank != w.size - 1) return;
    pack_units(bias_ih, q.bias_ih, C::ROWS, q.hidden);
    if (C::PARAMS) pack_units(params, q.params, C::PARAMS, q.hidden);
    for (int s = 0; s < C::STAGES; ++s)
      pack_units(bias_hh[s], q.bias_hh ? q.bias_hh + C::row_start[s] * q.hidden : nullptr, C::rows[s], q.hidden);
  }

  T* input(long panel, long t, long b) const {
    return ax + ((panel * span + t % span) * this->batch + b) * C::ROWS * width;
  }

  // Pre-activations of the inputs of steps [first, last), rows of the batch, groups of columns: x Wih^T + bih. One-hot
  // inputs meet no product: a table has a row for every token, or (a text shorter than that) columns are read as they are.
  void input_product(long first, long last, const Share& rows, const Share& columns) const {
    struct Axis {
      long count, step;  // rows, and how far apart they are
    };
    const long steps = last - first, count = rows.last - rows.first;
    Axis inner = {count, 1}, outer = {steps, this->batch};  // tiles run along the longer of the two
    if (count == this->batch)
      inner = {steps * count, 1}, outer = {1, 0};
    else if (steps > count)
      inner = {steps, this->batch}, outer = {count, 1};
    for (long g = columns.first; g < columns.last; ++g) {
      const int vectors = inputs.vectors(g);
      const Cut cut(0, inner.count, tile_rows(vectors));
      Tile<T> tile = {};
      tile.lda = inner.step * q.x_row, tile.segments = 1, tile.length = q.inputs;
      tile.w = packed_ih + inputs.packed(g, q.inputs);
      tile.ldo = inner.step * C::ROWS * width;
      tile.start = bias_ih + inputs.first(g) * C::ROWS * width;
      for (int v = 0; v < vectors; ++v)
        tile.offset[v] = (v / C::ROWS) * span * this->batch * C::ROWS * width + v % C::ROWS * width;
      for (long o = 0; o < outer.count; ++o)
        for (long i = 0; i < cut.tiles; ++i) {
          const long row = rows.first + o * outer.step + cut.at(i) * inner.step, n = cut.at(i + 1) - cut.at(i);
          if (q.tokens) {
            for (long r = row; r < row + n * inner.step; r += inner.step) gather(first, r, g);
            continue;
          }
          tile.a = q.x + (first * this->batch + row) * q.x_row;
          tile.out = input(inputs.first(g), first, row);
          tile_function<T, false>(int(n), vectors)(tile);
        }
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
    tile.lda = this->padded, tile.segments = 1, tile.length = q.hidden;
    tile.out = sums, tile.ldo = groups[S].vectors(g) * width;
    tile.start = bias_hh[S] + groups[S].first(g) * C::rows[S] * width;
    for (int v = 0; v < groups[S].vectors(g); ++v) tile.offset[v] = v * width;
    return tile;
  }

  // Rows [row, end) of that product, which are one tile's.
  template <int S>
  INLINE void multiply(const Forward& f, Tile<T>& tile, long t, long g, int vectors, long row, long end) {
    if (C::operands[S] == 0)
      for (long r = 0; r < end - row; ++r) copy(tile.out + r * tile.ldo, tile.start, tile.ldo);
    for (int j = 0; j < C::operands[S]; ++j) {
      const int from = C::operand[S][j];
      const T* operand = from < C::STATES ? f.state(from, t) : f.values + (from - C::STATES) * f.batch * f.padded;
      tile.a = operand + row * f.padded;
      tile.w = f.packed_hh[S][j] + f.groups[S].packed(g, f.q.hidden);
      tile.add = j > 0;
      tile_function<T, false>(int(end - row), vectors)(tile);
    }
  }

  template <int S>
  void stage(long t, const Share& rows, const Share& mine) const {
    alignas(64) T sums[MAX_ROWS * MAX_VECTORS * width];
    for (long g = mine.first; g < mine.last; ++g) {
      const int vectors = groups[S].vectors(g);
      const long first = groups[S].first(g), panels = vectors / C::rows[S];
      const Cut cut(rows.first, rows.last, tile_rows(vectors));
      Tile<T> tile = tile_of<S>(g, sums);
      for (long i = 0; i < cut.tiles; ++i) {
        const long row = cut.at(i), end = cut.at(i + 1);
        if (S + 1 == C::STAGES) expect(*this, t, row, end, first, panels);
        multiply<S>(*this, tile, t, g, vectors, row, end);
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

  // The same for a single row: two panels side by side take the place of two rows.
  template <int S>
  void stage_of_row(long t, const Share& mine) const {
    alignas(64) T sums[2 * MAX_VECTORS * width];
    constexpr long per = C::rows[S] * width;
    long first = groups[S].first(mine.first), count = 0;  // panels whose sums are there
    for (long g = mine.first; g < mine.last; ++g) {
      const int vectors = groups[S].vectors(g);
      Tile<T> tile = tile_of<S>(g, sums + count * per);
      multiply<S>(*this, tile, t, g, vectors, 0, 1);
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
        stage_of_row<S>(t, mine);
      else
        stage<S>(t, rows, mine);
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
        input_product(t, t + span < this->steps ? t + span : this->steps, rows, columns);
        if (q.by_panels && !w.barrier()) return;
      }
      if (!stages<0>(t, rows, w)) return;
    }
  }
};

template <class T, class C>
struct Backward : Sizes<T, C> {
  using Sizes<T, C>::q;
  using Sizes<T, C>::width;
  static constexpr int LAST = C::STAGES - 1;

  Groups<T> groups;                 // hidden units, the columns of dG U
  Groups<T> input_columns, hidden_columns;  // columns of Wih, and of one operand in Whh
  long span;                        // steps after which their part of the weights' gradients is added up
  T* dax;                           // (P, span B + 1, R, W) gradient of the input pre-activations
  T* dah;                           // the same for the recurrent ones; dax where the cell does not tell them apart
  T* packed_hh[C::STAGES][C::MAX_OPERANDS];  // (group, rows H, vectors, W)
  T* packed_ih;                     // (group, R H, vectors, W)
  T* packed_x;                      // (group, span B, vectors, W)
  T* packed_operand[C::STAGES][C::MAX_OPERANDS];  // (group, span B, vectors, W)
  T* params;                        // (P, number, W)
  T* dvalues;                       // (number, B, Hp) gradient of what a stage handed on
  T* dparams;                       // (number, B, Hp) gradients of the per-unit parameters, each row's sum over time
  T* wide_ih;                       // (R H, I padded) gradients while their rows do not end at a vector; else unused
  T* wide_hh;                       // (R H, operands, Hp)
  T* biases[2];                     // (P, R, W) sums of dax and of dah
  T* table;                         // (P, V, R, W) sums of dax by token
  size_t bytes;

  Backward(const Layer<T>& layer, char* work)
      : Sizes<T, C>(layer), groups(scan_groups(layer, 1)),
        input_columns(layer.inputs, 1), hidden_columns(layer.hidden, 1) {
    Pieces p(work);
    const long gates = this->panels * C::ROWS * width;
    span = this->span_of(256 * 1024, 256);
    dax = p.template take<T>(this->panels * step_of_panel());
    dah = C::SPLIT ? p.template take<T>(this->panels * step_of_panel()) : dax;
    packed_ih = p.template take<T>(q.dx ? input_columns.size(C::ROWS * q.hidden) : 0);
    packed_x = p.template take<T>(q.x ? input_columns.size(span * this->batch) : 0);
    params = p.template take<T>(this->padded * C::PARAMS);
    dvalues = p.template take<T>(C::MAX_VALUES * this->batch * this->padded);
    dparams = p.template take<T>(C::PARAMS * this->batch * this->padded);
    wide_ih = p.template take<T>(q.x && input_padding() ? C::ROWS * q.hidden * input_columns.panels * width : 0);
    wide_hh = p.template take<T>(hidden_padding() ? C::ROWS * q.hidden * C::OPERAND_WIDTH * this->padded : 0);
    biases[0] = p.template take<T>(gates);
    biases[1] = C::SPLIT ? p.template take<T>(gates) : biases[0];
    table = p.template take<T>(q.tokens ? q.inputs * gates : 0);
    for (int s = 0; s < C::STAGES; ++s)
      for (int j = 0; j < C::operands[s]; ++j) {
        packed_hh[s][j] = p.template take<T>(groups.size(C::rows[s] * q.hidden));
        packed_operand[s][j] = p.template take<T>(hidden_columns.size(span * this->batch));
      }
    bytes = p.used;
  }

  bool input_padding() const { return q.inputs % width != 0; }
  bool hidden_padding() const { return q.hidden % width != 0; }
  // One row more than there are: panels a power of two apart would share few places of the cache.
  long step_of_panel() const { return (span * this->batch + 1) * C::ROWS * width; }
  // Where row b of step t lies among the rows of its span.
  long row_of(long t, long b) const { return t % span * this->batch + b; }

  // Which row of the weights belongs to index k = (panel, row block, lane) of a gate buffer without its padding.
  const T* weight_row(const T* w, long ld, long k, long row_blocks) const {
    const long panel = k / width / row_blocks, left = q.hidden - panel * width, lanes = left < width ? left : width;
    const long place = k - panel * row_blocks * width;
    return w + (place / lanes * q.hidden + panel * width + place % lanes) * ld;
  }

  void pack(const Worker& w) const {
    for (int s = 0; s < C::STAGES; ++s) {
      const long depth = C::rows[s] * q.hidden;
      const Share mine(depth, w);
      for (int j = 0; j < C::operands[s]; ++j) {
        const T* weights = q.weight_hh + C::row_start[s] * q.hidden * this->columns + j * q.hidden;
        pack_rows(packed_hh[s][j], [&](long k) { return weight_row(weights, this->columns, k, C::rows[s]); }, q.hidden, depth,
                  groups, mine.first, mine.last);
      }
    }
    if (q.dx) {
      const long depth = C::ROWS * q.hidden;
      const Share mine(depth, w);
      pack_rows(packed_ih, [&](long k) { return weight_row(q.weight_ih, q.inputs, k, C::ROWS); }, q.inputs, depth,
                input_columns, mine.first, mine.last);
    }
    const Share panels(this->panels, w);
    zero(biases[0], C::ROWS * width, panels);
    if (C::SPLIT) zero(biases[1], C::ROWS * width, panels);
    if (q.tokens) zero(table, q.inputs * C::ROWS * width, panels);
    if (w.rank != w.size - 1) return;
    if (C::PARAMS) pack_units(params, q.params, C::PARAMS, q.hidden);
    for (long i = 0; i < C::PARAMS * this->batch * this->padded; ++i) dparams[i] = 0;
  }

  static void zero(T* to, long size, const Share& mine) {
    for (long i = mine.first * size; i < mine.last * size; ++i) to[i] = 0;
  }

  // The products' left operands of steps [first, last), as the right operands of the gradients of their weights.
  void pack_operands(long first, long last, const Worker& w) const {
    const long start = first * this->batch, depth = last * this->batch - start;
    const Share mine(depth, w);
    if (q.x)
      pack_rows(packed_x, [&](long k) { return q.x + (start + k) * q.x_row; }, q.inputs, depth, input_columns, mine.first, mine.last);
    for (int s = 0; s < C::STAGES; ++s)
      for (int j = 0; j < C::operands[s]; ++j) {
        const int from = C::operand[s][j];
        T* to = packed_operand[s][j];
        if (from < C::STATES) {
          const T* states = q.states[from] + start * this->padded;
          pack_rows(to, [&](long k) { return states + k * this->padded; }, q.hidden, depth, hidden_columns, mine.first, mine.last);
          continue;
        }
        const int gate = C::value_gate[from - C::STATES];
        for (long g = 0; g < hidden_columns.count; ++g) {
          const int vectors = hidden_columns.vectors(g);
          T* base = to + hidden_columns.packed(g, depth);
          for (long k = mine.first; k < mine.last; ++k)
            for (int v = 0; v < vectors; ++v) {
              const T* slot = this->slot(first + k / this->batch, hidden_columns.first(g) + v, k % this->batch);
              store(base + (k * vectors + v) * width, load(slot + gate * width));
            }
        }
      }
  }

  // A sum over gates, (panel, row block, lane): some whole panels at a time, so that their weights stay in the second-level
  // cache while all row tiles pass by, then the lanes of a last, narrower panel. Sets the tile's segments for run(panel).
  template <class Run>
  INLINE void over_gates(const Backward& f, Tile<T>& tile, int row_blocks, int vectors, const T* right, const Run& run) {
    const long whole = f.q.hidden / width, rest = f.q.hidden % width, panel = row_blocks * width * vectors * width;
    const long fit = 192 * 1024 / long(panel * sizeof(T)), most = fit < 1 ? 1 : fit;
    tile.segment_step = f.step_of_panel(), tile.length = row_blocks * width;
    for (long c = 0; c < whole; c += most) {
      tile.segments = whole - c < most ? whole - c : most;
      tile.w = right + c * panel;
      run(c);
    }
    if (rest == 0) return;
    tile.segments = row_blocks, tile.segment_step = width, tile.length = rest;
    tile.w = right + whole * panel;
    run(whole);
  }

  // out (B, Hp) += dG(t) U: the gradient of stage `s` at step t times the weights of its operand j.
  void product(T* out, int s, int j, long t, const Share& rows, long g) const {
    const int vectors = groups.vectors(g);
    const Cut cut(rows.first, rows.last, tile_rows(vectors));
    Tile<T> tile = {};
    tile.lda = C::ROWS * width;
    tile.ldo = this->padded, tile.add = true;
    for (int v = 0; v < vectors; ++v) tile.offset[v] = v * width;
    const T* right = packed_hh[s][j] + groups.packed(g, C::rows[s] * q.hidden);
    over_gates(*this, tile, C::rows[s], vectors, right, [&](long panel) {
      for (long i = 0; i < cut.tiles; ++i) {
        const long row = cut.at(i);
        tile.a = dah + panel * step_of_panel() + (row_of(t, row) * C::ROWS + C::row_start[s]) * width;
        tile.out = out + row * this->padded + groups.first(g) * width;
        tile_function<T, false>(int(cut.at(i + 1) - row), vectors)(tile);
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

  // out (rows of the weights, columns) (+)= dG^T right over `depth` rows; threads share (panel, row block, tile of lanes).
  bool weight_product(T* out, long ld, const T* right, const Groups<T>& columns, const T* da, int row_start, int row_blocks,
                      long depth, bool add, const Worker& w) const {
    constexpr int height = tile_rows(4), tiles = (width + height - 1) / height;
    const Share mine(this->panels * row_blocks * tiles, w);
    for (long u = mine.first; u < mine.last; ++u) {
      if ((u - mine.first) % 8 == 0 && !w.go_on()) return false;
      const long panel = u / tiles / row_blocks, block = u / tiles % row_blocks;
      const long units = q.hidden - panel * width < width ? q.hidden - panel * width : width;
      const long lane = u % tiles * units / tiles, end = (u % tiles + 1) * units / tiles;
      if (lane == end) continue;
      Tile<T> tile = {};
      tile.lda = C::ROWS * width, tile.segments = 1, tile.length = depth;
      tile.ldo = ld, tile.add = add;
      tile.a = da + panel * step_of_panel() + (row_start + block) * width + lane;
      for (int v = 0; v < MAX_VECTORS; ++v) tile.offset[v] = v * width;
      for (long g = 0; g < columns.count; ++g) {
        const int vectors = columns.vectors(g);
        tile.w = right + columns.packed(g, depth);
        tile.out = out + (block * q.hidden + panel * width + lane) * ld + columns.first(g) * width;
        // The sums so far of the next tile are far away: let the cache fetch them while this one runs.
        for (long r = 0; add && r < end - lane; ++r)
          for (int v = 0; v < 4; ++v) __builtin_prefetch(tile.out + r * ld + (vectors + v) * width, 1);
        tile_function<T, true>(int(end - lane), vectors)(tile);
      }
    }
    return true;
  }

  // dx of `rows` rows, the first of which is row `start` of all.
  bool input_gradient(long start, long rows, const Worker& w) const {
    const Share mine(rows, w);
    constexpr long block = 96;
    for (long first = mine.first; first < mine.last; first += block) {
      if (!w.go_on()) return false;
      const long last = first + block < mine.last ? first + block : mine.last;
      for (long g = 0; g < input_columns.count; ++g) {
        const int vectors = input_columns.vectors(g);
        const Cut cut(first, last, tile_rows(vectors));
        Tile<T> tile = {};
        tile.lda = C::ROWS * width, tile.ldo = q.dx_row;
        for (int v = 0; v < vectors; ++v) tile.offset[v] = v * width;
        const T* right = packed_ih + input_columns.packed(g, C::ROWS * q.hidden);
        over_gates(*this, tile, C::ROWS, vectors, right, [&](long panel) {
          tile.add = panel > 0;
          for (long i = 0; i < cut.tiles; ++i) {
            tile.a = dax + panel * step_of_panel() + cut.at(i) * C::ROWS * width;
            tile.out = q.dx + (start + cut.at(i)) * q.dx_row + input_columns.first(g) * width;
            tile_function<T, false>(int(cut.at(i + 1) - cut.at(i)), vectors)(tile);
          }
        });
      }
    }
    return true;
  }

  // Adds a gate buffer's rows up: first among themselves, which keeps more digits than one long sum.
  void add_biases(T* totals, const T* da, long depth, const Share& mine) const {
    for (long panel = mine.first; panel < mine.last; ++panel) {
      Vec<T> part[C::ROWS] = {};
      const T* from = da + panel * step_of_panel();
      for (long k = 0; k < depth; ++k)
#pragma GCC unroll 8
        for (int r = 0; r < C::ROWS; ++r) part[r] += load(from + (k * C::ROWS + r) * width);
      for (int r = 0; r < C::ROWS; ++r) {
        T* total = totals + (panel * C::ROWS + r) * width;
        store(total, load(total) + part[r]);
      }
    }
  }

  void write_biases(T* out, const T* totals, const Share& mine) const {
    for (long panel = mine.first; out && panel < mine.last; ++panel)
      for (int r = 0; r < C::ROWS; ++r)
        store(out + r * q.hidden + panel * width, load(totals + (panel * C::ROWS + r) * width), q.hidden - panel * width);
  }

  // One-hot inputs: rows of dG are added up by token, a span in the order of time;
  void add_tokens(long start, long depth, const Share& mine) const {
    for (long panel = mine.first; panel < mine.last; ++panel) {
      const T* from = dax + panel * step_of_panel();
      T* sums = table + panel * q.inputs * C::ROWS * width;
      for (long k = 0; k < depth; ++k)
#pragma GCC unroll 8
        for (int r = 0; r < C::ROWS; ++r) {
          T* total = sums + (q.tokens[start + k] * C::ROWS + r) * width;
          store(total, load(total) + load(from + (k * C::ROWS + r) * width));
        }
    }
  }

  // then turned into columns.
  void write_tokens(const Share& mine) const {
    for (long panel = mine.first; panel < mine.last; ++panel) {
      const T* sums = table + panel * q.inputs * C::ROWS * width;
      const long units = q.hidden - panel * width < width ? q.hidden - panel * width : width;
      for (int r = 0; r < C::ROWS; ++r)
        for (long token = 0; token < q.inputs; token += width) {
          const long left = q.inputs - token;
          Vec<T> block[width];
          for (int i = 0; i < width; ++i) block[i] = i < left ? load(sums + ((token + i) * C::ROWS + r) * width) : Vec<T>{};
          transpose<T>(block);
          for (int i = 0; i < units; ++i)
            store(q.d_weight_ih + (r * q.hidden + panel * width + i) * q.inputs + token, block[i], left);
        }
    }
  }

  void narrow(T* to, long to_row, const T* from, long from_row, long rows, long width_, const Worker& w) const {
    const Share mine(rows, w);
    for (long i = mine.first; i < mine.last; ++i) copy(to + i * to_row, from + i * from_row, width_);
  }

  // What steps [first, last) add to the gradients of the weights, and the gradient of their inputs.
  bool gradients(long first, long last, const Worker& w) const {
    const long start = first * this->batch, depth = last * this->batch - start;
    const bool add = last < this->steps;
    const Share panels(this->panels, w);
    if (q.tokens) {
      add_tokens(start, depth, panels);
    } else {
      const long ld = input_padding() ? input_columns.panels * width : q.inputs;
      T* out = input_padding() ? wide_ih : q.d_weight_ih;
      if (!weight_product(out, ld, packed_x, input_columns, dax, 0, C::ROWS, depth, add, w)) return false;
    }
    for (int s = 0; s < C::STAGES; ++s)
      for (int j = 0; j < C::operands[s]; ++j) {
        const long ld = hidden_padding() ? C::OPERAND_WIDTH * this->padded : this->columns;
        T* out = (hidden_padding() ? wide_hh + j * this->padded : q.d_weight_hh + j * q.hidden) + C::row_start[s] * q.hidden * ld;
        if (!weight_product(out, ld, packed_operand[s][j], hidden_columns, dah, C::row_start[s], C::rows[s], depth, add, w))
          return false;
      }
    if (q.dx && !input_gradient(start, depth, w)) return false;
    if (q.d_bias_ih) add_biases(biases[0], dax, depth, panels);
    if (q.d_bias_ih && C::SPLIT) add_biases(biases[1], dah, depth, panels);
    return true;
  }

  // Gradients that were added up elsewhere, to where they belong.
  void write(const Worker& w) const {
    const Share panels(this->panels, w);
    write_biases(q.d_bias_ih, biases[0], panels);
    write_biases(q.d_bias_hh, biases[1], panels);
    if (q.tokens) write_tokens(panels);
    if (q.x && input_padding())
      narrow(q.d_weight_ih, q.inputs, wide_ih, input_columns.panels * width, C::ROWS * q.hidden, q.inputs, w);
    if (hidden_padding())
      for (int s = 0; s < C::STAGES; ++s)
        for (int j = 0; j < C::operands[s]; ++j) {
          const long start = C::row_start[s] * q.hidden;
          narrow(q.d_weight_hh + start * this->columns + j * q.hidden, this->columns,
                 wide_hh + (start * C::OPERAND_WIDTH + j) * this->padded, C::OPERAND_WIDTH * this->padded,
                 C::rows[s] * q.hidden, q.hidden, w);
        }
    if (C::PARAMS && w.rank == 0)
      for (int i = 0; i < C::PARAMS; ++i)
        for (long unit = 0; unit < q.hidden; ++unit) {
          T total = 0;
          for (long b = 0; b < this->batch; ++b) total += dparams[(i * this->batch + b) * this->padded + unit];
          q.d_params[i * q.hidden + unit] = total;
        }
  }

  void run(const Worker& w) const {
    pack(w);
    if (!w.barrier()) return;
    if (this->rows == 0) return;  // all gradients are the zeros that the caller put there
    const Worker one = {0, 1, w.shared};
    const Share rows(this->batch, q.by_panels ? one : w), mine(groups.count, q.by_panels ? w : one);
    for (long first = (this->steps - 1) / span * span, last = this->steps; first >= 0; last = first, first -= span) {
      pack_operands(first, last, w);
      for (long t = last - 1; t >= first; --t) {
        if ((t % 4 == 0 || t % span == 0) && !w.go_on()) return;
        if (!stages<LAST>(t, rows, mine, w)) return;
      }
      if (!w.barrier() || !gradients(first, last, w) || !w.barrier()) return;
    }
    write(w);
  }
};

template <class T, class C>
struct Entry {
  static size_t forward_work(const Layer<T>& q) { return Forward<T, C>(q, nullptr).bytes; }
  static void forward(const Layer<T>& q, char* work, const Worker& w) {
    const Forward<T, C> f(q, work);
    if (f.prepare(w)) f.run(w);
  }
  static void prepare(const Layer<T>& q, char* work, const Worker& w) { Forward<T, C>(q, work).prepare(w); }
  static void step(const Layer<T>& q, char* work, const Worker& w) { Forward<T, C>(q, work).run(w); }
  static size_t backward_work(const Layer<T>& q) { return Backward<T, C>(q, nullptr).bytes; }
  static void backward(const Layer<T>& q, char* work, const Worker& w) { Backward<T, C>(q, work).run(w); }
};
