// The linear layer y = x W^T + b and its gradients, from the tiles of tile.h. Outputs are shared out, sums never, so any
// number of threads gives the same bits.
#pragma once

// out (rows, columns) = start + a b, with b packed (group, depth, vectors, W).
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
};

template <class T>
struct Multiply {
  static constexpr int width = W<T>, VECTORS = 4, HEIGHT = tile_rows(VECTORS);
  // A DEPTH x GROUPS piece of b stays in the second-level cache while rows pass by; of a turned left operand, ROWS
  // columns are copied side by side, since they lie a page apart.
  static constexpr long DEPTH = 256, GROUPS = 4, ROWS = 16 * HEIGHT;

  static size_t turned_work(int threads) { return size_t(threads) * ROWS * DEPTH; }

  static void tiles(const Product<T>& q, const T* a, long lda, bool turned, long first, long last, long g0, long g1, long k, long length) {
    for (long g = g0; g < g1; ++g) {
      const int vectors = q.columns.vectors(g);
      const Cut cut(first, last, tile_rows(vectors));
      Tile<T> tile = {};
      tile.lda = lda, tile.segments = 1, tile.length = length;
      tile.w = q.b + q.columns.packed(g, q.depth) + k * vectors * width;
      tile.ldo = q.ldo;
      tile.start = q.start ? q.start + q.columns.first(g) * width : nullptr;
      tile.add = k > 0;
      for (int v = 0; v < vectors; ++v) tile.offset[v] = v * width;
      for (long i = 0; i < cut.tiles; ++i) {
        tile.a = a + (cut.at(i) - first) * (turned ? 1 : lda);
        tile.out = q.out + cut.at(i) * q.ldo + q.columns.first(g) * width;
        const int rows = int(cut.at(i + 1) - cut.at(i));
        (turned ? tile_function<T, true>(rows, vectors) : tile_function<T, false>(rows, vectors))(tile);
      }
    }
  }

  static bool run(const Product<T>& q, const Worker& w) {
    const Share mine((q.rows + HEIGHT - 1) / HEIGHT, w);
    const long first = mine.first * HEIGHT, last = mine.last * HEIGHT < q.rows ? mine.last * HEIGHT : q.rows;
    const long blocks = (q.depth + DEPTH - 1) / DEPTH;
    for (long block = 0; block < blocks; ++block) {
      const long k = block * q.depth / blocks, length = (block + 1) * q.depth / blocks - k;
      for (long g = 0; g < q.columns.count; g += GROUPS) {
        if (!w.go_on()) return false;
        const long end = g + GROUPS < q.columns.count ? g + GROUPS : q.columns.count;
        tiles(q, q.a + first * q.lda + k, q.lda, false, first, last, g, end, k, length);
      }
    }
    return true;
  }

  // `copied`: this thread's (DEPTH, ROWS).
  static bool run_turned(const Product<T>& q, T* copied, const Worker& w) {
    const Share mine((q.rows + HEIGHT - 1) / HEIGHT, w);
    const long end = mine.last * HEIGHT < q.rows ? mine.last * HEIGHT : q.rows;
    const long blocks = (q.depth + DEPTH - 1) / DEPTH;
    for (long block = 0; block < blocks; ++block) {
      const long k = block * q.depth / blocks, length = (block + 1) * q.depth / blocks - k;
      for (long first = mine.first * HEIGHT; first < end; first += ROWS) {
        if (!w.go_on()) return false;
        const long last = first + ROWS < end ? first + ROWS : end;
        for (long i = 0; i < length; ++i) {
          const T* from = q.a + (k + i) * q.lda + first;
          for (long r = 0; r < last - first; r += width) store(copied + i * ROWS + r, load(from + r, last - first - r));
        }
        tiles(q, copied, ROWS, true, first, last, 0, q.columns.count, k, length);
      }
    }
    return true;
  }
};

template <class T>
struct LinearLayer {
  static constexpr int width = W<T>;
  const Linear<T>& q;
  Groups<T> inputs, outputs;
  T* packed_weight;  // forward: (group of outputs, I, vectors, W); backward: (group of inputs, O, vectors, W)
  T* packed_x;       // (group of inputs, rows, vectors, W)
  T* start;          // (O padded) the bias
  T* wide;           // (O, I padded) gradient of the weight while its rows do not end at a vector; else unused
  T* copied;         // (threads, DEPTH, ROWS) columns of dy, side by side
  size_t bytes;

  LinearLayer(const Linear<T>& layer, char* work, int threads, bool forward)
      : q(layer), inputs(layer.inputs, 1), outputs(layer.outputs, 1) {
    Pieces p(work);
    packed_weight = p.template take<T>(forward ? outputs.size(q.inputs) : inputs.size(q.outputs));
    packed_x = p.template take<T>(forward ? 0 : inputs.size(q.rows));
    start = p.template take<T>(forward ? outputs.panels * width : 0);
    wide = p.template take<T>(!forward && padding() ? q.outputs * inputs.panels * width : 0);
    copied = p.template take<T>(forward ? 0 : Multiply<T>::turned_work(threads));
    bytes = p.used;
  }

  bool padding() const { return q.inputs % width != 0; }

  bool prepare(const Worker& w) const {
    const Share mine(outputs.count, w);
    pack_transposed(packed_weight, q.weight, q.inputs, q.outputs, q.inputs, outputs, mine.first, mine.last);
    if (w.rank == 0) pack_units(start, q.bias, 1, q.outputs);
    return w.barrier();
  }

  void forward(const Worker& w) const {
    if (prepare(w)) Multiply<T>::run({q.rows, q.inputs, q.x, q.x_row, packed_weight, outputs, q.y, q.y_row, start}, w);
  }

  // One row; threads share the columns.
  void row(const Worker& w) const {
    const Share mine(outputs.count, w);
    Multiply<T>::tiles({1, q.inputs, q.x, q.x_row, packed_weight, outputs, q.y, q.y_row, start}, q.x, q.x_row, false, 0, 1,
                       mine.first, mine.last, 0, q.inputs);
  }

  void backward(const Worker& w) const {
    const Share weights(q.outputs, w), rows(q.rows, w);
    pack_rows(packed_weight, [this](long k) { return q.weight + k * q.inputs; }, q.inputs, q.outputs, inputs, weights.first, weights.last);
    pack_rows(packed_x, [this](long k) { return q.x + k * q.x_row; }, q.inputs, q.rows, inputs, rows.first, rows.last);
    if (!w.barrier()) return;
    if (!Multiply<T>::run({q.rows, q.outputs, q.dy, q.dy_row, packed_weight, inputs, q.dx, q.dx_row, nullptr}, w)) return;
    T* gradient = padding() ? wide : q.d_weight;
    const long ld = padding() ? inputs.panels * width : q.inputs;
    T* own = copied + w.rank * Multiply<T>::turned_work(1);
    if (!Multiply<T>::run_turned({q.outputs, q.rows, q.dy, q.dy_row, packed_x, inputs, gradient, ld, nullptr}, own, w)) return;
    bias_gradient(w);
    if (!padding() || !w.barrier()) return;
    for (long i = weights.first; i < weights.last; ++i) copy(q.d_weight + i * q.inputs, wide + i * ld, q.inputs);
  }

  // Sums of dy over all rows: 8 vectors of columns at a time, blocks of rows first, which keeps more digits.
  void bias_gradient(const Worker& w) const {
    constexpr long BLOCK = 256, COLUMNS = 8 * width;
    const Share mine((q.outputs + COLUMNS - 1) / COLUMNS, w);
    for (long c = mine.first * COLUMNS; c < mine.last * COLUMNS && c < q.outputs; c += COLUMNS) {
      Vec<T> total[8] = {};
      for (long k = 0; k < q.rows; k += BLOCK) {
        Vec<T> part[8] = {};
        for (long i = k; i < q.rows && i < k + BLOCK; ++i)
          for (int v = 0; v < 8 && c + v * width < q.outputs; ++v)
            part[v] += load(q.dy + i * q.dy_row + c + v * width, q.outputs - c - v * width);
        for (int v = 0; v < 8; ++v) total[v] += part[v];
      }
      for (int v = 0; v < 8 && c + v * width < q.outputs; ++v)
        store(q.d_bias + c + v * width, total[v], q.outputs - c - v * width);
    }
  }

  static size_t forward_work(const Linear<T>& q, int threads) { return LinearLayer(q, nullptr, threads, true).bytes; }
  static size_t backward_work(const Linear<T>& q, int threads) { return LinearLayer(q, nullptr, threads, false).bytes; }
  static void run_forward(const Linear<T>& q, char* work, const Worker& w) { LinearLayer(q, work, w.size, true).forward(w); }
  static void run_prepare(const Linear<T>& q, char* work, const Worker& w) { LinearLayer(q, work, w.size, true).prepare(w); }
  static void run_backward(const Linear<T>& q, char* work, const Worker& w) { LinearLayer(q, work, w.size, false).backward(w); }
};
