// What a span of steps adds to the gradients of the weights, the biases and the inputs: sums over the rows of the span, of
// what the scan backward (scan_backward.h) has written of every pre-activation's gradient.
#pragma once

#include "kernels.h"
#include "panels.h"
#include "pieces.h"
#include "scan_sizes.h"
#include "simd.h"
#include "team.h"
#include "tile.h"

namespace unrolled::UNROLLED_ISA {

template <class T, class C>
struct Gradients : Sizes<T, C> {
  using Sizes<T, C>::q;
  using Sizes<T, C>::width;

  Groups<T> input_columns, hidden_columns;  // columns of Wih, and of one operand in Whh
  long span;                        // steps after which their part of the weights' gradients is added up
  T* dax;                           // (P, span B + 1, R, W) gradient of the input pre-activations
  T* dah;                           // the same for the recurrent ones; dax where the cell does not tell them apart
  T* dax_words;                     // (P, span B + 1, R, lane words): dax as the left operand of products; dax itself where
  T* dah_words;                     // they multiply it as it is. And dah
  T* turned[2];                     // (P, words of span B, R, W): dax and dah as the left operands of sums over rows
  T* packed_ih;                     // (group, R H, vectors, W)
  T* packed_x;                      // (group, span B, vectors, W)
  T* packed_operand[C::STAGES][C::MAX_OPERANDS];  // (group, span B, vectors, W)
  T* wide_ih;                       // (R H, I padded) gradients while their rows do not end at a vector; else unused
  T* wide_hh;                       // (R H, operands, Hp)
  T* biases[2];                     // (P, R, W) sums of dax and of dah
  T* table;                         // (P, V, R, W) sums of dax by token

  Gradients(const Layer<T>& layer, Pieces& p)
      : Sizes<T, C>(layer), input_columns(layer.inputs, 1), hidden_columns(layer.hidden, 1) {
    const long gates = this->panels * C::ROWS * width;
    span = this->span_of(256 * 1024, 256);
    dax = p.template take<T>(this->panels * step_of_panel());
    dah = C::SPLIT ? p.template take<T>(this->panels * step_of_panel()) : dax;
    const long size = q.rounds ? this->panels * step_of_words() : 0, turn = q.rounds ? this->panels * step_of_turned() : 0;
    const long depth = this->words_of(span * this->batch);
    T *words_x = p.template take<T>(size), *words_h = p.template take<T>(C::SPLIT ? size : 0);
    dax_words = q.rounds ? words_x : dax, dah_words = !q.rounds ? dah : C::SPLIT ? words_h : words_x;
    turned[0] = p.template take<T>(turn), turned[1] = p.template take<T>(C::SPLIT ? turn : 0);
    if (!C::SPLIT) turned[1] = turned[0];
    packed_ih = p.template take<T>(q.dx ? input_columns.size(depth_of_gates(C::ROWS)) : 0);
    packed_x = p.template take<T>(q.x ? input_columns.size(depth) : 0);
    for (int s = 0; s < C::STAGES; ++s)
      for (int j = 0; j < C::operands[s]; ++j) packed_operand[s][j] = p.template take<T>(hidden_columns.size(depth));
    wide_ih = p.template take<T>(q.x && input_padding() ? C::ROWS * q.hidden * input_columns.panels * width : 0);
    wide_hh = p.template take<T>(hidden_padding() ? C::ROWS * q.hidden * C::OPERAND_WIDTH * this->padded : 0);
    biases[0] = p.template take<T>(gates);
    biases[1] = C::SPLIT ? p.template take<T>(gates) : biases[0];
    table = p.template take<T>(q.tokens ? q.inputs * gates : 0);
  }

  bool input_padding() const { return q.inputs % width != 0; }
  bool hidden_padding() const { return q.hidden % width != 0; }
  // One row more than there are: panels a power of two apart would share few places of the cache.
  long step_of_panel() const { return (span * this->batch + 1) * C::ROWS * width; }
  long lane_words() const { return this->words_of(width); }
  long step_of_words() const { return (span * this->batch + 1) * C::ROWS * lane_words(); }
  long step_of_turned() const { return (this->words_of(span * this->batch) + 1) * C::ROWS * width; }
  // Words of a sum over some row blocks of a gate buffer, without its padding; those of a narrower panel are whole words.
  long depth_of_gates(long row_blocks) const {
    return row_blocks * (q.hidden / width * lane_words() + this->words_of(q.hidden % width));
  }

  // Which row of the weights belongs to number k = (panel, row block, lane) of that sum; null where a word has none.
  const T* weight_row(const T* w, long ld, long k, long row_blocks) const {
    const long panel = k / width / row_blocks, left = q.hidden - panel * width, lanes = left < width ? left : width;
    const long place = k - panel * row_blocks * width, across = this->words_of(lanes) * per_word(this->form);
    if (place % across >= lanes) return nullptr;
    return w + (place / across * q.hidden + panel * width + place % across) * ld;
  }

  // The inputs' weights packed, and sums that begin at 0.
  void prepare(const Worker& w) const {
    if (q.dx) {
      const long depth = depth_of_gates(C::ROWS);
      const Share mine(depth, w);
      pack_rows(packed_ih, [&](long k) { return weight_row(q.weight_ih, q.inputs, k, C::ROWS); }, q.inputs, depth,
                input_columns, mine.first, mine.last, this->form);
    }
    const Share panels(this->panels, w);
    zero(biases[0], C::ROWS * width, panels);
    if (C::SPLIT) zero(biases[1], C::ROWS * width, panels);
    if (q.tokens) zero(table, q.inputs * C::ROWS * width, panels);
  }

  static void zero(T* to, long size, const Share& mine) {
    for (long i = mine.first * size; i < mine.last * size; ++i) to[i] = 0;
  }

  // The products' left operands of steps [first, last), as the right operands of the gradients of their weights.
  void pack_operands(long first, long last, const Worker& w) const {
    const long start = first * this->batch, count = last * this->batch - start, depth = this->words_of(count);
    const Share mine(depth, w);
    const auto row_at = [&](const T* from, long step) {
      return [=](long k) { return k < count ? from + (start + k) * step : nullptr; };
    };
    if (q.x) pack_rows(packed_x, row_at(q.x, q.x_row), q.inputs, depth, input_columns, mine.first, mine.last, this->form);
    for (int s = 0; s < C::STAGES; ++s)
      for (int j = 0; j < C::operands[s]; ++j) {
        const int from = C::operand[s][j];
        T* to = packed_operand[s][j];
        if (from < C::STATES) {
          pack_rows(to, row_at(q.states[from], this->padded), q.hidden, depth, hidden_columns, mine.first, mine.last, this->form);
          continue;
        }
        const int gate = C::value_gate[from - C::STATES];
        for (long g = 0; g < hidden_columns.count; ++g) {
          const int vectors = hidden_columns.vectors(g);
          T* base = to + hidden_columns.packed(g, depth);
          for (long k = mine.first; k < mine.last; ++k)
            for (int v = 0; v < vectors; ++v) {
              const auto value = [&](long row) {
                if (row >= count) return Vec<T>{};
                return load(this->slot(first + row / this->batch, hidden_columns.first(g) + v, row % this->batch) + gate * width);
              };
              const long row = k * per_word(this->form);
              store(base + (k * vectors + v) * width, above<T>(this->form, value(row), value(row + 1)));
            }
        }
      }
  }

  // A sum over gates, (panel, row block, lane): some whole panels at a time, so that their weights stay in the second-level
  // cache while all row tiles pass by, then the lanes of a last, narrower panel. Sets the tile's segments for run(panel);
  // the weights are group g of `columns`, packed.
  template <class Run>
  INLINE void over_gates(const Gradients& f, Tile<T>& tile, int row_blocks, const Groups<T>& columns, long g, const T* packed,
                         const Run& run) {
    const int vectors = columns.vectors(g);
    const long depth = f.depth_of_gates(row_blocks), lanes = f.lane_words();
    const T* right = packed + columns.packed(g, depth);
    const T* next = columns.next(packed, g, depth);
    const long whole = f.q.hidden / width, rest = f.words_of(f.q.hidden % width), panel = row_blocks * lanes * vectors * width;
    const long fit = 192 * 1024 / long(panel * sizeof(T)), most = fit < 1 ? 1 : fit;
    tile.segment_step = f.step_of_words(), tile.length = row_blocks * lanes;
    for (long c = 0; c < whole; c += most) {
      tile.segments = whole - c < most ? whole - c : most;
      tile.w = right + c * panel;
      tile.next = !next || c + most >= whole ? next : tile.w + most * panel;
      run(c);
    }
    if (rest == 0) return;
    tile.segments = row_blocks, tile.segment_step = lanes, tile.length = rest;
    tile.w = right + whole * panel, tile.next = nullptr;
    run(whole);
  }

  // Rows of a gate buffer as the left operand of sums over them.
  void turn(T* to, const T* da, long count, const Share& mine) const {
    for (long panel = mine.first; panel < mine.last; ++panel)
      write_words_above(this->form, to + panel * step_of_turned(), C::ROWS * width, da + panel * step_of_panel(), C::ROWS * width,
                        count, C::ROWS * width);
  }

  // out (rows of the weights, columns) (+)= dG^T right over `depth` words of rows; threads share (panel, row block, tile of
  // lanes). Panels of the left operand are `step` apart.
  bool weight_product(T* out, long ld, const T* right, const Groups<T>& columns, const T* da, long step, int row_start,
                      int row_blocks, long depth, bool add, const Worker& w) const {
    constexpr int height = tile_rows(VECTORS), tiles = (width + height - 1) / height;
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
      tile.a = da + panel * step + (row_start + block) * width + lane;
      for (int v = 0; v < MAX_VECTORS; ++v) tile.offset[v] = v * width;
      for (long g = 0; g < columns.count; ++g) {
        const int vectors = columns.vectors(g);
        tile.w = right + columns.packed(g, depth);
        tile.out = out + (block * q.hidden + panel * width + lane) * ld + columns.first(g) * width;
        // The sums so far of the next tile are far away: let the cache fetch them while this one runs.
        for (long r = 0; add && r < end - lane; ++r)
          for (int v = 0; v < 4; ++v) __builtin_prefetch(tile.out + r * ld + (vectors + v) * width, 1);
        tile_function<T, true>(int(end - lane), vectors, this->form)(tile);
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
        tile.lda = C::ROWS * lane_words(), tile.ldo = q.dx_row;
        for (int v = 0; v < vectors; ++v) tile.offset[v] = v * width;
        over_gates(*this, tile, C::ROWS, input_columns, g, packed_ih, [&](long panel) {
          tile.add = panel > 0;
          for (long i = 0; i < cut.tiles; ++i) {
            tile.fetch(i, vectors);
            tile.a = dax_words + panel * step_of_words() + cut.at(i) * tile.lda;
            tile.out = q.dx + (start + cut.at(i)) * q.dx_row + input_columns.first(g) * width;
            tile_function<T, false>(int(cut.at(i + 1) - cut.at(i)), vectors, this->form)(tile);
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

  // Rows of `width_` numbers, from where they lie further apart.
  static void unpad(T* to, long to_row, const T* from, long from_row, long rows, long width_, const Worker& w) {
    const Share mine(rows, w);
    for (long i = mine.first; i < mine.last; ++i) copy(to + i * to_row, from + i * from_row, width_);
  }

  // What steps [first, last) add to the gradients of the weights, and the gradient of their inputs.
  bool add_span(long first, long last, const Worker& w) const {
    const long start = first * this->batch, depth = last * this->batch - start;
    const bool add = last < this->steps;
    const Share panels(this->panels, w);
    const T *left_x = dax, *left_h = dah;
    long step = step_of_panel(), words_deep = depth;
    if (q.rounds) {
      if (!C::SPLIT || q.x) turn(turned[0], dax, depth, panels);
      if (C::SPLIT) turn(turned[1], dah, depth, panels);
      if (!w.barrier()) return false;
      left_x = turned[0], left_h = turned[1], step = step_of_turned(), words_deep = this->words_of(depth);
    }
    if (q.tokens) {
      add_tokens(start, depth, panels);
    } else {
      const long ld = input_padding() ? input_columns.panels * width : q.inputs;
      T* out = input_padding() ? wide_ih : q.d_weight_ih;
      if (!weight_product(out, ld, packed_x, input_columns, left_x, step, 0, C::ROWS, words_deep, add, w)) return false;
    }
    for (int s = 0; s < C::STAGES; ++s)
      for (int j = 0; j < C::operands[s]; ++j) {
        const long ld = hidden_padding() ? C::OPERAND_WIDTH * this->padded : this->columns;
        T* out = (hidden_padding() ? wide_hh + j * this->padded : q.d_weight_hh + j * q.hidden) + C::row_start[s] * q.hidden * ld;
        if (!weight_product(out, ld, packed_operand[s][j], hidden_columns, left_h, step, C::row_start[s], C::rows[s], words_deep, add, w))
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
      unpad(q.d_weight_ih, q.inputs, wide_ih, input_columns.panels * width, C::ROWS * q.hidden, q.inputs, w);
    if (hidden_padding())
      for (int s = 0; s < C::STAGES; ++s)
        for (int j = 0; j < C::operands[s]; ++j) {
          const long start = C::row_start[s] * q.hidden;
          unpad(q.d_weight_hh + start * this->columns + j * q.hidden, this->columns,
                wide_hh + (start * C::OPERAND_WIDTH + j) * this->padded, C::OPERAND_WIDTH * this->padded,
                C::rows[s] * q.hidden, q.hidden, w);
        }
  }
};

}  // namespace unrolled::UNROLLED_ISA
