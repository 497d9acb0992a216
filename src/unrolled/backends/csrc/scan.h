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
  T* slot(long panel, long row) const { return q.gates + (panel * rows + row) * q.slots * width; }
};

// The groups of a step's product: where threads share them, at least one for each thread if there are panels enough.
template <class T>
static Groups<T> scan_groups(const Layer<T>& q, long per) {
  Groups<T> g(q.hidden, per);
  if (q.by_panels && g.count < q.threads) g.count = g.panels < q.threads ? g.panels : q.threads;
  return g;
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
  size_t bytes;

  Forward(const Layer<T>& layer, char* work) : Sizes<T, C>(layer), inputs(layer.hidden, C::ROWS) {
    Pieces p(work);
    packed_ih = p.template take<T>(inputs.size(q.inputs));
    bias_ih = p.template take<T>(this->padded * C::ROWS);
    params = p.template take<T>(this->padded * C::PARAMS);
    values = p.template take<T>(C::MAX_VALUES * this->batch * this->padded);
    T* rows_by_token = p.template take<T>(q.table ? this->padded * C::ROWS * q.inputs : 0);
    table = q.table ? rows_by_token : nullptr;
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

  // Pre-activations of the inputs, all steps at once: x Wih^T + bih into the slots. One-hot inputs meet no product: a
  // table has a row for every token, or (a text shorter than that) the few columns are read as they are.
  bool input_product(const Worker& w) const {
    const Worker one = {0, 1, w.shared};
    const Share mine(this->rows, q.by_panels ? one : w), columns(inputs.count, q.by_panels ? w : one);
    constexpr long block = 192;  // rows of x that stay in the second-level cache while the weights pass by
    for (long first = mine.first; first < mine.last; first += block) {
      if (!w.go_on()) return false;
      const long last = first + block < mine.last ? first + block : mine.last;
      if (q.tokens) {
        for (long g = columns.first; g < columns.last; ++g) gather(first, last, g);
        continue;
      }
      for (long g = columns.first; g < columns.last; ++g) {
        const int vectors = inputs.vectors(g);
        const Cut cut(first, last, tile_rows(vectors));
        Tile<T> tile = {};
        tile.lda = q.x_row, tile.segments = 1, tile.length = q.inputs;
        tile.w = packed_ih + inputs.packed(g, q.inputs);
        tile.ldo = q.slots * width;
        tile.start = bias_ih + inputs.first(g) * C::ROWS * width;
        for (int v = 0; v < vectors; ++v)
          tile.offset[v] = (v / C::ROWS) * this->rows * q.slots * width + v % C::ROWS * width;
        for (long i = 0; i < cut.tiles; ++i) {
          const long row = cut.at(i);
          tile.a = q.x + row * q.x_row;
          tile.out = this->slot(inputs.first(g), row);
          tile_function<T, false>(int(cut.at(i + 1) - row), vectors)(tile);
        }
      }
    }
    return true;
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

  void gather(long first, long last, long g) const {
    for (long panel = inputs.first(g); panel < inputs.first(g + 1); ++panel)
      for (long row = first; row < last; ++row)
        for (int gate = 0; gate < C::ROWS; ++gate) {
          Vec<T> column = {};
          for (long i = 0; i < width && panel * width + i < q.hidden; ++i)
            column[i] = q.weight_ih[(gate * q.hidden + panel * width + i) * q.inputs + q.tokens[row]];
          store(this->slot(panel, row) + gate * width, column + load(bias_ih + (panel * C::ROWS + gate) * width));
        }
  }

  // The elementwise map of stage S for W units of one row; ah are the products' sums.
  template <int S>
  INLINE void finish(const Forward& f, long t, long b, long panel, const T* ah_sums) {
    typedef Vec<T> V;
    constexpr bool last = S + 1 == C::STAGES;
    const Layer<T>& q = f.q;
    const long row = t * f.batch + b, unit = b * f.padded + panel * width;
    T* slot = f.slot(panel, row);
    const T* inputs = f.table ? f.table + (panel * q.inputs + q.tokens[row]) * C::ROWS * width : slot;
    V ax[C::rows[S]], ah[C::rows[S]], s[C::STATES], p[C::PARAMS + 1] = {}, earlier[C::MAX_VALUES + 1] = {};
    V out[(C::STATES > C::MAX_VALUES ? C::STATES : C::MAX_VALUES)], gates[C::GATES + 1];
#pragma GCC unroll 8
    for (int i = 0; i < C::rows[S]; ++i) {
      ax[i] = load(inputs + (C::row_start[S] + i) * width);
      ah[i] = load(ah_sums + i * width);
    }
#pragma GCC unroll 4
    for (int i = 0; i < C::STATES; ++i) s[i] = load(f.state(i, t) + unit);
#pragma GCC unroll 4
    for (int i = 0; i < C::PARAMS; ++i) p[i] = load(f.params + (panel * C::PARAMS + i) * width);
    if (S > 0)
#pragma GCC unroll 8
      for (int i = 0; i < C::values[S > 0 ? S - 1 : 0]; ++i) earlier[i] = load(f.values + i * f.batch * f.padded + unit);
    C::template forward<S>(ax, ah, s, earlier, p, out, gates);
    if (!last) {
#pragma GCC unroll 8
      for (int i = 0; i < C::values[S]; ++i) store(f.values + i * f.batch * f.padded + unit, out[i]);
      return;
    }
    if (q.record)
#pragma GCC unroll 8
      for (int i = 0; i < C::GATES; ++i) store(slot + i * width, gates[i]);
    const bool live = !q.live || q.live[row];
#pragma GCC unroll 4
    for (int i = 0; i < C::STATES; ++i) {
      if (q.proposed[i]) store(q.proposed[i] + t * f.batch * f.padded + unit, out[i]);
      if (q.keep[i]) out[i] = select(byte_mask<T>(q.keep[i] + row * q.hidden + panel * width, q.hidden - panel * width), s[i], out[i]);
      store(f.state(i, t + 1) + unit, live ? out[i] : s[i]);
    }
    if (q.y) store(q.y + t * f.batch * f.padded + unit, live ? out[0] : V{});
  }

  template <int S>
  void stage(long t, const Share& rows, const Share& mine) const {
    alignas(64) T sums[MAX_ROWS * MAX_VECTORS * width];
    for (long g = mine.first; g < mine.last; ++g) {
      const int vectors = groups[S].vectors(g);
      const long first = groups[S].first(g), panels = vectors / C::rows[S];
      const Cut cut(rows.first, rows.last, tile_rows(vectors));
      Tile<T> tile = {};
      tile.lda = this->padded, tile.segments = 1, tile.length = q.hidden;
      tile.out = sums, tile.ldo = vectors * width;
      tile.start = bias_hh[S] + first * C::rows[S] * width;
      for (int v = 0; v < vectors; ++v) tile.offset[v] = v * width;
      for (long i = 0; i < cut.tiles; ++i) {
        const long row = cut.at(i), end = cut.at(i + 1);
        if (C::operands[S] == 0)
          for (long r = 0; r < end - row; ++r) copy(sums + r * tile.ldo, tile.start, tile.ldo);
        for (int j = 0; j < C::operands[S]; ++j) {
          const int from = C::operand[S][j];
          const T* operand = from < C::STATES ? this->state(from, t) : values + (from - C::STATES) * this->batch * this->padded;
          tile.a = operand + row * this->padded;
          tile.w = packed_hh[S][j] + groups[S].packed(g, q.hidden);
          tile.add = j > 0;
          tile_function<T, false>(int(end - row), vectors)(tile);
        }
        for (long b = row; b < end; ++b)
          for (long p = 0; p < panels; ++p)
            finish<S>(*this, t, b, first + p, sums + (b - row) * tile.ldo + p * C::rows[S] * width);
      }
    }
  }

  template <int S>
  bool stages(long t, const Share& rows, const Worker& w) const {
    if constexpr (S < C::STAGES) {
      const Worker one = {0, 1, w.shared};
      stage<S>(t, rows, Share(groups[S].count, q.by_panels ? w : one));
      if (q.by_panels && !w.barrier()) return false;
      return stages<S + 1>(t, rows, w);
    }
    return true;
  }

  // What does not depend on the inputs and the states.
  bool prepare(const Worker& w) const {
    pack(w);
    if (!w.barrier()) return false;
    if (!q.table) return true;
    fill_table(Share(q.inputs, w));
    return w.barrier();
  }

  void run(const Worker& w) const {
    if (!q.table && (!input_product(w) || !w.barrier())) return;
    const Worker one = {0, 1, w.shared};
    const Share rows(this->batch, q.by_panels ? one : w);
    for (long t = 0; t < this->steps; ++t) {
      if (t % 4 == 0 && !w.go_on()) return;
      if (!stages<0>(t, rows, w)) return;
    }
  }
};

template <class T, class C>
struct Backward : Sizes<T, C> {
  using Sizes<T, C>::q;
  using Sizes<T, C>::width;
  static constexpr int LAST = C::STAGES - 1;
  static constexpr long HEIGHT = 96, COLUMNS = 4;  // rows and vectors of a step that are taken at a time
  // Rows of all steps, and groups of columns, that a gradient's product takes at a time: the right operand's
  // BLOCK x GROUPS piece stays in the second-level cache while all left operands pass by.
  static constexpr long BLOCK = 256, GROUPS = 4;

  Groups<T> groups;                 // hidden units, the columns of dG U
  Groups<T> input_columns, hidden_columns;  // columns of Wih, and of one operand in Whh
  T* dax;                           // (P, T B + 1, R, W) gradient of the input pre-activations
  T* dah;                           // the same for the recurrent ones; dax where the cell does not tell them apart
  T* packed_hh[C::STAGES][C::MAX_OPERANDS];  // (group, P rows W, vectors, W)
  T* packed_ih;                     // (group, P R W, vectors, W)
  T* packed_x;                      // (group, T B, vectors, W)
  T* packed_operand[C::STAGES][C::MAX_OPERANDS];  // (group, T B, vectors, W)
  T* params;                        // (P, number, W)
  T* dvalues;                       // (number, B, Hp) gradient of what a stage handed on
  T* dparams;                       // (number, B, Hp) gradients of the per-unit parameters, each row's sum over time
  T* wide_ih;                       // (R H, I padded) gradients while their rows do not end at a vector; else unused
  T* wide_hh;                       // (R H, operands, Hp)
  T* table;                         // (threads, V, R W) one panel's sums by token
  size_t bytes;

  Backward(const Layer<T>& layer, char* work)
      : Sizes<T, C>(layer), groups(scan_groups(layer, 1)),
        input_columns(layer.inputs, 1), hidden_columns(layer.hidden, 1) {
    Pieces p(work);
    const long gates = this->panels * C::ROWS * width;
    dax = p.template take<T>(this->panels * step_of_panel());
    dah = C::SPLIT ? p.template take<T>(this->panels * step_of_panel()) : dax;
    packed_ih = p.template take<T>(q.dx ? input_columns.size(gates) : 0);
    packed_x = p.template take<T>(q.x ? input_columns.size(this->rows) : 0);
    params = p.template take<T>(this->padded * C::PARAMS);
    dvalues = p.template take<T>(C::MAX_VALUES * this->batch * this->padded);
    dparams = p.template take<T>(C::PARAMS * this->batch * this->padded);
    wide_ih = p.template take<T>(q.x && input_padding() ? C::ROWS * q.hidden * input_columns.panels * width : 0);
    wide_hh = p.template take<T>(hidden_padding() ? C::ROWS * q.hidden * C::OPERAND_WIDTH * this->padded : 0);
    table = p.template take<T>(q.tokens ? q.threads * q.inputs * C::ROWS * width : 0);
    for (int s = 0; s < C::STAGES; ++s)
      for (int j = 0; j < C::operands[s]; ++j) {
        packed_hh[s][j] = p.template take<T>(groups.size(this->panels * C::rows[s] * width));
        packed_operand[s][j] = p.template take<T>(hidden_columns.size(this->rows));
      }
    bytes = p.used;
  }

  bool input_padding() const { return q.inputs % width != 0; }
  bool hidden_padding() const { return q.hidden % width != 0; }
  // One row more than there are: panels a power of two apart would share few places of the cache.
  long step_of_panel() const { return (this->rows + 1) * C::ROWS * width; }

  // Which row of the weights belongs to index k = (panel, row block, lane) of a gate buffer; null in the padding.
  const T* weight_row(const T* w, long ld, long k, long row_blocks) const {
    const long lane = k % width, block = k / width % row_blocks, unit = k / width / row_blocks * width + lane;
    return unit < q.hidden ? w + (block * q.hidden + unit) * ld : nullptr;
  }

  void pack(const Worker& w) const {
    for (int s = 0; s < C::STAGES; ++s) {
      const long depth = this->panels * C::rows[s] * width;
      const Share mine(depth, w);
      for (int j = 0; j < C::operands[s]; ++j) {
        const T* weights = q.weight_hh + C::row_start[s] * q.hidden * this->columns + j * q.hidden;
        pack_rows(packed_hh[s][j], [&](long k) { return weight_row(weights, this->columns, k, C::rows[s]); }, q.hidden, depth,
                  groups, mine.first, mine.last);
      }
    }
    if (q.dx) {
      const long depth = this->panels * C::ROWS * width;
      const Share mine(depth, w);
      pack_rows(packed_ih, [&](long k) { return weight_row(q.weight_ih, q.inputs, k, C::ROWS); }, q.inputs, depth,
                input_columns, mine.first, mine.last);
    }
    const Share mine(this->rows, w);
    if (q.x) pack_rows(packed_x, [&](long k) { return q.x + k * q.x_row; }, q.inputs, this->rows, input_columns, mine.first, mine.last);
    for (int s = 0; s < C::STAGES; ++s)
      for (int j = 0; j < C::operands[s]; ++j) pack_operand(packed_operand[s][j], C::operand[s][j], mine);
    if (w.rank != w.size - 1) return;
    if (C::PARAMS) pack_units(params, q.params, C::PARAMS, q.hidden);
    for (long i = 0; i < C::PARAMS * this->batch * this->padded; ++i) dparams[i] = 0;
  }

  // A product's left operand of all steps, as the right operand of the gradient of its weights.
  void pack_operand(T* to, int from, const Share& mine) const {
    if (from < C::STATES) {
      const T* states = q.states[from];
      pack_rows(to, [&](long k) { return states + k * this->padded; }, q.hidden, this->rows, hidden_columns, mine.first, mine.last);
      return;
    }
    const int gate = C::value_gate[from - C::STATES];
    for (long g = 0; g < hidden_columns.count; ++g) {
      const int vectors = hidden_columns.vectors(g);
      T* base = to + hidden_columns.packed(g, this->rows);
      for (long k = mine.first; k < mine.last; ++k)
        for (int v = 0; v < vectors; ++v)
          store(base + (k * vectors + v) * width, load(this->slot(hidden_columns.first(g) + v, k) + gate * width));
    }
  }

  // How many segments (panels of the summed index) to take at a time, so that their weights stay in the second-level
  // cache while all row tiles pass by.
  long chunk(int row_blocks, int vectors) const {
    const long fit = 192 * 1024 / long(row_blocks * width * vectors * width * sizeof(T));
    return fit < 1 ? 1 : fit;
  }

  // sums (+)= dG(t) U: rows [first, last) of stage `s`'s gradient at step t times the weights of its operand j.
  void product(T* sums, int s, int j, long t, long first, long last, long g, bool add) const {
    const int vectors = groups.vectors(g);
    const Cut cut(first, last, tile_rows(vectors));
    const long depth = C::rows[s] * width, most = chunk(C::rows[s], vectors);
    Tile<T> tile = {};
    tile.lda = C::ROWS * width;
    tile.segment_step = step_of_panel(), tile.length = depth;
    tile.ldo = vectors * width;
    for (int v = 0; v < vectors; ++v) tile.offset[v] = v * width;
    for (long c = 0; c < this->panels; c += most) {
      tile.segments = this->panels - c < most ? this->panels - c : most;
      tile.w = packed_hh[s][j] + groups.packed(g, this->panels * depth) + c * depth * vectors * width;
      tile.add = add || c > 0;
      for (long i = 0; i < cut.tiles; ++i) {
        const long row = cut.at(i);
        tile.a = dah + c * step_of_panel() + (t * this->batch + row) * C::ROWS * width + C::row_start[s] * width;
        tile.out = sums + (row - first) * tile.ldo;
        tile_function<T, false>(int(cut.at(i + 1) - row), vectors)(tile);
      }
    }
  }

  // Everything that step t's products of stage s add to field `target` of the state, or to a value handed to stage s.
  bool products(T* sums, int first, int last, int target, long t, long row, long end, long g) const {
    bool any = false;
    for (int s = first; s <= last; ++s)
      for (int j = 0; j < C::operands[s]; ++j)
        if (C::operand[s][j] == target) {
          product(sums, s, j, t, row, end, g, any);
          any = true;
        }
    return any;
  }

  // The elementwise backward map of stage S for W units of one row. sums[f] (null: none) is what products add to d[f].
  template <int S>
  INLINE void finish(const Backward& f, long t, long b, long panel, const T* const* sums) {
    typedef Vec<T> V;
    constexpr bool last = S == LAST;
    const Layer<T>& q = f.q;
    const long row = t * f.batch + b, unit = b * f.padded + panel * width, left = q.hidden - panel * width;
    const long field_step = f.batch * f.padded;
    T* da_x = f.dax + panel * f.step_of_panel() + (row * C::ROWS + C::row_start[S]) * width;
    T* da_h = f.dah + panel * f.step_of_panel() + (row * C::ROWS + C::row_start[S]) * width;
    const bool live = !q.live || q.live[row];
    constexpr int inputs = last ? C::STATES : C::values[S];
    V d[inputs], passed[C::STATES] = {};
#pragma GCC unroll 8
    for (int i = 0; i < inputs; ++i) {
      d[i] = load((last ? q.dstate[i % C::STATES] : f.dvalues + i * field_step) + unit);
      if (sums[i]) d[i] = d[i] + load(sums[i]);
    }
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
      d[0] = d[0] + load(q.dy + row * q.dy_row + panel * width, left);
#pragma GCC unroll 4
      for (int i = 0; i < C::STATES; ++i)
        if (q.keep[i]) {
          const auto mask = byte_mask<T>(q.keep[i] + row * q.hidden + panel * width, left);
          passed[i] = select(mask, d[i % inputs], V{});
          d[i % inputs] = select(mask, V{}, d[i % inputs]);
        }
    } else {
#pragma GCC unroll 4
      for (int i = 0; i < C::STATES; ++i) passed[i] = load(q.dstate[i] + unit);
    }
    V s[C::STATES], next[C::STATES], gates[C::GATES + 1] = {}, p[C::PARAMS + 1] = {};
    V dx[C::rows[S]], dh[C::rows[S]], ds[C::STATES], dv[C::MAX_VALUES + 1], dp[C::PARAMS + 1];
    const T* slot = f.slot(panel, row);
#pragma GCC unroll 8
    for (int i = 0; i < C::GATES; ++i) gates[i] = load(slot + i * width);
#pragma GCC unroll 4
    for (int i = 0; i < C::STATES; ++i) {
      s[i] = load(f.state(i, t) + unit);
      next[i] = load((q.proposed[i] ? q.proposed[i] + t * f.batch * f.padded : f.state(i, t + 1)) + unit);
    }
#pragma GCC unroll 4
    for (int i = 0; i < C::PARAMS; ++i) p[i] = load(f.params + (panel * C::PARAMS + i) * width);
    C::template backward<S>(d, gates, s, next, p, dx, dh, ds, dv, dp);
#pragma GCC unroll 8
    for (int i = 0; i < C::rows[S]; ++i) {
      store(da_x + i * width, dx[i]);
      if (C::SPLIT) store(da_h + i * width, dh[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < C::STATES; ++i) store(q.dstate[i] + unit, passed[i] + ds[i]);
    if (S > 0)
#pragma GCC unroll 8
      for (int i = 0; i < C::values[S > 0 ? S - 1 : 0]; ++i) store(f.dvalues + i * field_step + unit, dv[i]);
#pragma GCC unroll 4
    for (int i = 0; i < C::PARAMS; ++i) {
      T* total = f.dparams + i * field_step + unit;
      store(total, load(total) + dp[i]);
    }
  }

  template <int S>
  void stage(long t, const Share& rows, const Share& mine) const {
    constexpr int inputs = S == LAST ? C::STATES : C::values[S];
    alignas(64) T sums[inputs][HEIGHT * COLUMNS * width];
    for (long first = rows.first; first < rows.last; first += HEIGHT) {
      const long last = first + HEIGHT < rows.last ? first + HEIGHT : rows.last;
      for (long g = mine.first; g < mine.last; ++g) {
        const int vectors = groups.vectors(g);
        bool any[inputs] = {};
        for (int k = 0; k < inputs; ++k)
          any[k] = S < LAST ? products(sums[k], S + 1, S + 1, C::STATES + k, t, first, last, g)
                            : t + 1 < this->steps && products(sums[k], 0, LAST, k, t + 1, first, last, g);
        for (long b = first; b < last; ++b)
          for (int p = 0; p < vectors; ++p) {
            const T* parts[inputs];
            for (int k = 0; k < inputs; ++k) parts[k] = any[k] ? sums[k] + ((b - first) * vectors + p) * width : nullptr;
            finish<S>(*this, t, b, groups.first(g) + p, parts);
          }
      }
    }
  }

  template <int S>
  bool stages(long t, const Share& rows, const Share& mine, const Worker& w) const {
    if constexpr (S >= 0) {
      stage<S>(t, rows, mine);
      if (q.by_panels && !w.barrier()) return false;
      return stages<S - 1>(t, rows, mine, w);
    }
    return true;
  }

  // The initial state's gradient lacks what the first step's products give it.
  void first_step(const Share& rows, const Share& mine) const {
    alignas(64) T sums[HEIGHT * COLUMNS * width];
    for (long first = rows.first; first < rows.last; first += HEIGHT) {
      const long last = first + HEIGHT < rows.last ? first + HEIGHT : rows.last;
      for (long g = mine.first; g < mine.last; ++g)
        for (int k = 0; k < C::STATES; ++k) {
          const int vectors = groups.vectors(g);
          if (!products(sums, 0, LAST, k, 0, first, last, g)) continue;
          for (long b = first; b < last; ++b)
            for (int p = 0; p < vectors; ++p) {
              T* d = q.dstate[k] + b * this->padded + (groups.first(g) + p) * width;
              store(d, load(d) + load(sums + ((b - first) * vectors + p) * width));
            }
        }
    }
  }

  // out (rows of the weights, columns) = dG^T right, for units [first, last) of (panel, row block, tile of its lanes).
  // Sums run over all T B rows, in blocks that stay in the cache.
  bool weight_product(T* out, long ld, const T* right, const Groups<T>& columns, const T* da, int row_start, int row_blocks,
                      const Worker& w) const {
    constexpr int height = tile_rows(4), tiles = (width + height - 1) / height;
    const Share mine(this->panels * row_blocks * tiles, w);
    const long blocks = (this->rows + BLOCK - 1) / BLOCK;
    for (long part = 0; part < blocks; ++part) {
      const long k = part * this->rows / blocks, depth = (part + 1) * this->rows / blocks - k;
      for (long g0 = 0; g0 < columns.count; g0 += GROUPS) {
        if (!w.go_on()) return false;
        const long g1 = g0 + GROUPS < columns.count ? g0 + GROUPS : columns.count;
        for (long u = mine.first; u < mine.last; ++u) {
          const long panel = u / tiles / row_blocks, block = u / tiles % row_blocks;
          const long units = q.hidden - panel * width < width ? q.hidden - panel * width : width;
          const long lane = u % tiles * units / tiles, end = (u % tiles + 1) * units / tiles;
          if (lane == end) continue;
          Tile<T> tile = {};
          tile.lda = C::ROWS * width, tile.segments = 1, tile.length = depth;
          tile.ldo = ld, tile.add = k > 0;
          tile.a = da + panel * step_of_panel() + (k * C::ROWS + row_start + block) * width + lane;
          for (int v = 0; v < COLUMNS; ++v) tile.offset[v] = v * width;
          for (long g = g0; g < g1; ++g) {
            const int vectors = columns.vectors(g);
            tile.w = right + columns.packed(g, this->rows) + k * vectors * width;
            tile.out = out + (block * q.hidden + panel * width + lane) * ld + columns.first(g) * width;
            tile_function<T, true>(int(end - lane), vectors)(tile);
          }
        }
      }
    }
    return true;
  }

  bool input_gradient(const Worker& w) const {
    const Share mine(this->rows, w);
    constexpr long block = 96;
    const long depth = this->panels * C::ROWS * width;
    for (long first = mine.first; first < mine.last; first += block) {
      if (!w.go_on()) return false;
      const long last = first + block < mine.last ? first + block : mine.last;
      for (long g = 0; g < input_columns.count; ++g) {
        const int vectors = input_columns.vectors(g);
        const Cut cut(first, last, tile_rows(vectors));
        const long most = chunk(C::ROWS, vectors);
        Tile<T> tile = {};
        tile.lda = C::ROWS * width;
        tile.segment_step = step_of_panel(), tile.length = C::ROWS * width;
        tile.ldo = q.dx_row;
        for (int v = 0; v < vectors; ++v) tile.offset[v] = v * width;
        for (long c = 0; c < this->panels; c += most) {
          tile.segments = this->panels - c < most ? this->panels - c : most;
          tile.w = packed_ih + input_columns.packed(g, depth) + c * tile.length * vectors * width;
          tile.add = c > 0;
          for (long i = 0; i < cut.tiles; ++i) {
            tile.a = dax + c * step_of_panel() + cut.at(i) * C::ROWS * width;
            tile.out = q.dx + cut.at(i) * q.dx_row + input_columns.first(g) * width;
            tile_function<T, false>(int(cut.at(i + 1) - cut.at(i)), vectors)(tile);
          }
        }
      }
    }
    return true;
  }

  // Sum of a gate buffer over all rows, also to `same` unless it is null; blocks of rows first, which keeps more digits than one long sum.
  void bias_gradient(T* out, T* same, const T* da, const Worker& w) const {
    const Share mine(this->panels * C::ROWS, w);
    for (long u = mine.first; u < mine.last; ++u) {
      const long panel = u / C::ROWS, block = u % C::ROWS;
      const T* from = da + panel * step_of_panel() + block * width;
      Vec<T> total = {};
      for (long k = 0; k < this->rows; k += BLOCK) {
        Vec<T> part = {};
        for (long i = k; i < this->rows && i < k + BLOCK; ++i) part += load(from + i * C::ROWS * width);
        total += part;
      }
      store(out + block * q.hidden + panel * width, total, q.hidden - panel * width);
      if (same) store(same + block * q.hidden + panel * width, total, q.hidden - panel * width);
    }
  }

  // One-hot inputs: rows of dG are added up by token in the order of time, then turned into columns.
  bool token_gradient(const Worker& w) const {
    typedef Vec<T> V;
    const Share mine(this->panels, w);
    T* sums = table + w.rank * q.inputs * C::ROWS * width;
    for (long panel = mine.first; panel < mine.last; ++panel) {
      if (!w.go_on()) return false;
      const T* from = dax + panel * step_of_panel();
      const long units = q.hidden - panel * width < width ? q.hidden - panel * width : width;
      for (long i = 0; i < q.inputs * C::ROWS; ++i) store(sums + i * width, V{});
      for (long k = 0; k < this->rows; ++k)
        for (int r = 0; r < C::ROWS; ++r) {
          T* total = sums + (q.tokens[k] * C::ROWS + r) * width;
          store(total, load(total) + load(from + (k * C::ROWS + r) * width));
        }
      for (int r = 0; r < C::ROWS; ++r)
        for (long token = 0; token < q.inputs; token += width) {
          const long left = q.inputs - token;
          V block[width];
          for (int i = 0; i < width; ++i) block[i] = i < left ? load(sums + ((token + i) * C::ROWS + r) * width) : V{};
          transpose<T>(block);
          for (int i = 0; i < units; ++i)
            store(q.d_weight_ih + (r * q.hidden + panel * width + i) * q.inputs + token, block[i], left);
        }
    }
    return true;
  }

  void narrow(T* to, long to_row, const T* from, long from_row, long rows, long width_, const Worker& w) const {
    const Share mine(rows, w);
    for (long i = mine.first; i < mine.last; ++i) copy(to + i * to_row, from + i * from_row, width_);
  }

  bool gradients(const Worker& w) const {
    if (q.tokens) {
      if (!token_gradient(w)) return false;
    } else {
      const long ld = input_padding() ? input_columns.panels * width : q.inputs;
      if (!weight_product(input_padding() ? wide_ih : q.d_weight_ih, ld, packed_x, input_columns, dax, 0, C::ROWS, w)) return false;
    }
    for (int s = 0; s < C::STAGES; ++s)
      for (int j = 0; j < C::operands[s]; ++j) {
        const long ld = hidden_padding() ? C::OPERAND_WIDTH * this->padded : this->columns;
        T* out = (hidden_padding() ? wide_hh + j * this->padded : q.d_weight_hh + j * q.hidden) + C::row_start[s] * q.hidden * ld;
        if (!weight_product(out, ld, packed_operand[s][j], hidden_columns, dah, C::row_start[s], C::rows[s], w)) return false;
      }
    if (q.dx && !input_gradient(w)) return false;
    if (q.d_bias_ih) bias_gradient(q.d_bias_ih, C::SPLIT ? nullptr : q.d_bias_hh, dax, w);
    if (C::SPLIT && q.d_bias_hh) bias_gradient(q.d_bias_hh, nullptr, dah, w);
    if (!w.barrier()) return false;
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
    return true;
  }

  void run(const Worker& w) const {
    pack(w);
    if (!w.barrier()) return;
    const Worker one = {0, 1, w.shared};
    const Share rows(this->batch, q.by_panels ? one : w), mine(groups.count, q.by_panels ? w : one);
    for (long t = this->steps - 1; t >= 0; --t) {
      if (t % 4 == 0 && !w.go_on()) return;
      if (!stages<LAST>(t, rows, mine, w)) return;
    }
    if (this->rows == 0) return;  // all gradients are the zeros that the caller put there
    first_step(rows, mine);
    if (!w.barrier()) return;
    gradients(w);
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
