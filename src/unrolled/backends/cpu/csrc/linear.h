// The linear layer y = x W^T + b and its gradients, from the tiles of tile.h. Outputs are shared out, sums never, so any
// number of threads gives the same bits.
#pragma once

#include "kernels.h"
#include "panels.h"
#include "pieces.h"
#include "simd.h"
#include "small.h"
#include "team.h"
#include "tile.h"

namespace unrolled::UNROLLED_ISA {

// out (rows, columns) = start + a b, with b packed (group, depth, vectors, W); `depth` counts words (operands.h).
template <class T>
struct Product {
  long rows, depth;
  const T* a;     // a(r, k) at a + r lda + k, or (turned) at a + r + k lda
  long lda;
  const T* b;
  Groups<T> columns;
  T* out;         // rows ldo apart, ldo being whole vectors
  long ldo;
  const T* start; // (columns) the same for every row, whole vectors; or null for zeros
  Operands form;
};

template <class T>
struct Multiply {
  static constexpr int width = W<T>, HEIGHT = tile_rows(VECTORS);
  // Rows of a, steps of the sum, and groups of columns that are taken at a time: these pieces stay in the second-level cache.
  static constexpr long ROWS = 256, DEPTH = 256, GROUPS = 4;

  // This thread's rows, in whole tiles.
  static Share share(long rows, const Worker& w) {
    const Share mine((rows + HEIGHT - 1) / HEIGHT, w);
    return Share(mine.first * HEIGHT, mine.last * HEIGHT < rows ? mine.last * HEIGHT : rows);
  }

  // Rows, groups of columns, and a part of the sum: `length` numbers from word k of b's depth on, which begins at the left
  // operand's first column; `add` to what `out` holds.
  template <bool TURNED>
  static void tiles(const Product<T>& q, const Share& rows, long g0, long g1, long k, long length, bool add) {
    if (q.form == Operands::WHOLE)
      tiles_of_words<TURNED>(q, rows, g0, g1, k, length, add);
    else
      write_and_multiply<TURNED>(q, rows, g0, g1, k, length, add);
  }

  // The same where the left operand is to be rounded: some rows and a part of the sum at a time become words.
  template <bool TURNED>
  static NOINLINE void write_and_multiply(const Product<T>& q, const Share& rows, long g0, long g1, long k, long length, bool add) {
    constexpr long SIZE = 16384, MOST = 1024;
    alignas(64) T left[SIZE];
    const long per = per_word(q.form), deep = words(q.form, length), parts = (deep + MOST - 1) / MOST;
    for (long part = 0; part < parts; ++part) {
      const long first = part * deep / parts, count = (part + 1) * deep / parts - first;
      const long numbers = length - first * per < count * per ? length - first * per : count * per;
      const long fit = TURNED ? SIZE / count / width * width : SIZE / ((count + width - 1) / width * width);
      const Even cut(rows.last - rows.first, (rows.last - rows.first + fit - 1) / fit);
      for (long row = rows.first, n, i = 0; row < rows.last; row += n, ++i) {
        n = cut.at(i + 1) - cut.at(i);
        Product<T> own = q;
        own.a = left, own.lda = ((TURNED ? n : count) + width - 1) / width * width, own.out = q.out + row * q.ldo;
        if (TURNED)
          write_words_above(q.form, left, own.lda, q.a + row + first * per * q.lda, q.lda, numbers, n);
        else
          for (long r = 0; r < n; ++r) write_words(q.form, left + r * own.lda, q.a + (row + r) * q.lda + first * per, numbers);
        tiles_of_words<TURNED>(own, Share(0L, n), g0, g1, k + first, count, add || part > 0);
      }
    }
  }

  template <bool TURNED>
  static void tiles_of_words(const Product<T>& q, const Share& rows, long g0, long g1, long k, long length, bool add) {
    for (long g = g0; g < g1; ++g) {
      const int vectors = q.columns.vectors(g);
      const Cut cut(rows.first, rows.last, tile_rows(vectors));
      Tile<T> tile = {};
      tile.lda = q.lda, tile.segments = 1, tile.length = length;
      tile.w = q.b + q.columns.packed(g, q.depth) + k * vectors * width;
      tile.ldo = q.ldo;
      tile.start = q.start ? q.start + q.columns.first(g) * width : nullptr;
      tile.add = add;
      for (int v = 0; v < vectors; ++v) tile.offset[v] = v * width;
      tile.next = g + 1 < q.columns.count ? q.columns.next(q.b, g, q.depth) : nullptr;
      if (tile.next) tile.next += k * q.columns.vectors(g + 1) * width;
      for (long i = 0; i < cut.tiles; ++i) {
        tile.fetch(i, vectors);
        tile.a = q.a + cut.at(i) * (TURNED ? 1 : q.lda);
        tile.out = q.out + cut.at(i) * q.ldo + q.columns.first(g) * width;
        tile_function<T, TURNED>(int(cut.at(i + 1) - cut.at(i)), vectors, q.form)(tile);
      }
    }
  }

  // All of it; rows of a have `numbers`.
  static bool run(const Product<T>& q, long numbers, const Worker& w) {
    const Share mine = share(q.rows, w);
    const long per = per_word(q.form), groups = q.form == Operands::WHOLE ? GROUPS : 4 * GROUPS;  // each writes a anew
    const long blocks = (q.depth + DEPTH - 1) / DEPTH, count = mine.last - mine.first, pieces = (count + ROWS - 1) / ROWS;
    for (long piece = 0; piece < pieces; ++piece) {
      const Share rows(mine.first + piece * count / pieces, mine.first + (piece + 1) * count / pieces);
      for (long block = 0; block < blocks; ++block) {
        const long k = block * q.depth / blocks, end = (block + 1) * q.depth / blocks * per;
        const long length = (end < numbers ? end : numbers) - k * per;
        Product<T> part = q;
        part.a += k * per;
        for (long g = 0; g < q.columns.count; g += groups) {
          if (!w.go_on()) return false;
          tiles<false>(part, rows, g, g + groups < q.columns.count ? g + groups : q.columns.count, k, length, k > 0);
        }
      }
    }
    return true;
  }
};

template <class T>
struct LinearLayer {
  static constexpr int width = W<T>;
  const Linear<T>& q;
  const Operands form;  // of products
  Groups<T> inputs, outputs;
  T* packed_weight;  // forward: (group of outputs, I, vectors, W); backward: (group of inputs, O, vectors, W)
  T* packed_x;       // (group of inputs, rows of a piece, vectors, W)
  T* start;          // (O padded) the bias,
  T* scale;          // and the scales of a weight in int8
  SmallRows<T> left; // (threads, rows) that are multiplied with those
  T* wide;           // (O, I padded) gradient of the weight while its rows do not end at a vector; else unused
  T* copied;         // (rows, COLUMNS) of dy, side by side; null where they lie near each other anyway
  T* sums;           // (O padded) the bias's gradient
  size_t bytes;
  // Rows and columns of dy that are taken at a time: all that is done with the piece is done while it is in the cache.
  static constexpr long ROWS = 400, COLUMNS = 256, FAR = 512;

  long pieces() const { return (q.rows + ROWS - 1) / ROWS; }

  LinearLayer(const Linear<T>& layer, char* work, bool forward)
      : q(layer), form(operands_of<T>(layer.rounds)), inputs(layer.inputs, 1),
        outputs(layer.outputs, 1, 1, vectors_of(layer.form.form)) {
    Pieces p(work);
    packed_weight = p.template take<T>(forward ? packed_size(outputs, words(form, q.inputs), q.form.form)
                                               : inputs.size(words(form, q.outputs)));
    packed_x = p.template take<T>(forward ? 0 : inputs.size((q.rows + pieces() - 1) / (pieces() ? pieces() : 1)));
    start = p.template take<T>(forward ? outputs.panels * width : 0);
    scale = p.template take<T>(q.form.scale ? outputs.panels * width : 0);
    if (q.form.form != Form::WHOLE) left = SmallRows<T>(p, q.threads * q.rows, q.inputs);
    wide = p.template take<T>(!forward && padding() ? q.outputs * inputs.panels * width : 0);
    const bool copies = !forward && q.outputs > FAR;
    T* columns = p.template take<T>(copies ? ROWS * COLUMNS : 0);
    copied = copies ? columns : nullptr;
    sums = p.template take<T>(forward ? 0 : outputs.panels * width);
    bytes = p.used;
  }

  bool padding() const { return q.inputs % width != 0; }

  bool prepare(const Worker& w) const {
    const Share mine(outputs.count, w);
    if (q.rounds)
      pack_transposed(packed_weight, q.weight, q.inputs, q.outputs, q.inputs, outputs, mine.first, mine.last, form);
    else
      pack_weight(packed_weight, q.weight, q.inputs, q.outputs, q.inputs, outputs, mine.first, mine.last, q.form);
    if (w.rank == 0) pack_units(start, q.bias, 1, q.outputs);
    if (w.rank == 0 && q.form.scale) pack_units(scale, q.form.scale, 1, q.outputs);
    return w.barrier();
  }

  Product<T> product() const {
    return {q.rows, words(form, q.inputs), q.x, q.x_row, packed_weight, outputs, q.y, q.y_row, start, form};
  }

  void forward(const Worker& w) const {
    if (prepare(w)) Multiply<T>::run(product(), q.inputs, w);
  }

  // As `forward` with the weight that is packed. Of one row, threads share the columns.
  void some_rows(const Worker& w) const {
    const Worker one = {0, 1, w.shared};
    const Share rows(q.rows, q.rows == 1 ? one : w), columns(outputs.count, q.rows == 1 ? w : one);
    if (q.form.form != Form::WHOLE)
      small_rows(rows, columns, w.rank);
    else if (q.rows == 1)
      Multiply<T>::template tiles<false>(product(), rows, columns.first, columns.last, 0, q.inputs, false);
    else
      Multiply<T>::run(product(), q.inputs, w);
  }

  void small_rows(const Share& rows, const Share& columns, int rank) const {
    for (long b = rows.first; b < rows.last; ++b) left.set(rank * q.rows + b, q.form.form, q.x + b * q.x_row, q.inputs);
    for (long g = columns.first; g < columns.last; ++g)
      for (long b = rows.first; b < rows.last; ++b) {
        const long first = outputs.first(g) * width;
        multiply_small(q.form.form, left[rank * q.rows + b], packed_weight, outputs, g, q.inputs, q.y + b * q.y_row + first, start + first,
                       scale + first);
      }
  }

  void backward(const Worker& w) const {
    const Share weights(q.outputs, w), packed(words(form, q.outputs), w);
    const auto row_of = [&](const T* from, long ld, long count) { return [=](long k) { return k < count ? from + k * ld : nullptr; }; };
    pack_rows(packed_weight, row_of(q.weight, q.inputs, q.outputs), q.inputs, words(form, q.outputs), inputs, packed.first, packed.last, form);
    for (long i = weights.first; i < weights.last; ++i) sums[i] = 0;
    for (long piece = 0; piece < pieces(); ++piece) {
      const long first = piece * q.rows / pieces(), rows = (piece + 1) * q.rows / pieces() - first;
      const Share mine(rows, w), of_x(words(form, rows), w);
      pack_rows(packed_x, row_of(q.x + first * q.x_row, q.x_row, rows), q.inputs, words(form, rows), inputs, of_x.first, of_x.last, form);
      const long blocks = (q.outputs + COLUMNS - 1) / COLUMNS, per = per_word(form), deep = words(form, q.outputs);
      for (long block = 0; block < blocks; ++block) {
        const long column = block * deep / blocks * per, end = (block + 1) * deep / blocks * per;
        const long columns = (end < q.outputs ? end : q.outputs) - column;
        const T* dy = q.dy + first * q.dy_row + column;
        for (long i = mine.first; copied && i < mine.last; ++i)
          for (long c = 0; c < columns; c += width) store(copied + i * COLUMNS + c, load(dy + i * q.dy_row + c, columns - c));
        if (!w.barrier()) return;
        const bool done = copied ? products(copied, COLUMNS, first, rows, column, columns, w)
                                 : products(dy, q.dy_row, first, rows, column, columns, w);
        if (!done || !w.barrier()) return;
      }
    }
    for (long i = weights.first; i < weights.last; ++i) {
      q.d_bias[i] = sums[i];
      if (padding()) copy(q.d_weight + i * q.inputs, wide + i * inputs.panels * width, q.inputs);
    }
  }

  // What a piece of dy, (rows, columns) from (first, column) on, adds to every gradient.
  bool products(const T* dy, long dy_row, long first, long rows, long column, long columns, const Worker& w) const {
    const long ld = padding() ? inputs.panels * width : q.inputs;
    T* gradient = (padding() ? wide : q.d_weight) + column * ld;
    const Product<T> input = {rows, words(form, q.outputs), dy, dy_row, packed_weight, inputs, q.dx + first * q.dx_row, q.dx_row,
                              nullptr, form};
    const Product<T> weight = {columns, words(form, rows), dy, dy_row, packed_x, inputs, gradient, ld, nullptr, form};
    Multiply<T>::template tiles<false>(input, Multiply<T>::share(rows, w), 0, inputs.count, words(form, column), columns, column > 0);
    if (!w.go_on()) return false;
    Multiply<T>::template tiles<true>(weight, Multiply<T>::share(columns, w), 0, inputs.count, 0, rows, first > 0);
    const Share mine((columns + width - 1) / width, w);
    for (long c = mine.first * width; c < mine.last * width && c < columns; c += width) {
      Vec<T> total = {};
      for (long i = 0; i < rows; ++i) total += load(dy + i * dy_row + c, columns - c);
      T* sum = sums + column + c;
      store(sum, load(sum, columns - c) + total, columns - c);
    }
    return w.go_on();
  }

  static size_t forward_work(const Linear<T>& q) { return LinearLayer(q, nullptr, true).bytes; }
  static size_t backward_work(const Linear<T>& q) { return LinearLayer(q, nullptr, false).bytes; }
  static void run_forward(const Linear<T>& q, char* work, const Worker& w) { LinearLayer(q, work, true).forward(w); }
  static void run_prepare(const Linear<T>& q, char* work, const Worker& w) { LinearLayer(q, work, true).prepare(w); }
  static void run_backward(const Linear<T>& q, char* work, const Worker& w) { LinearLayer(q, work, false).backward(w); }
};

}  // namespace unrolled::UNROLLED_ISA
