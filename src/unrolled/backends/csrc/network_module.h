// Bindings of what stands around the recurrence: linear layers, loss, clipping, update rules. Part of engine.cpp.
#pragma once

template <class T>
const ArrayKernels<T>& arrays() {
  if constexpr (sizeof(T) == 4)
    return state->kernels->f32;
  else
    return state->kernels->f64;
}

// Below this many operations a call does not pay for threads.
int threads_for(double operations, double least) { return operations < least ? 1 : state->threads; }

template <class T>
Linear<T> linear_of(const std::vector<long>& dims, nb::handle x, nb::handle weight) {
  if (dims.size() != 3) throw nb::value_error("dims has 3 entries");
  Linear<T> q = {};
  q.rows = dims[0], q.inputs = dims[1], q.outputs = dims[2];
  q.x = matrix<T>(x, q.rows, q.inputs, q.x_row, "x");
  q.weight = data<const T>(weight, q.outputs * q.inputs, "weight");
  return q;
}

template <class T>
long padded_row(long width) {
  const long vector = state->kernels->bytes / long(sizeof(T));
  return (width + vector - 1) / vector * vector;
}

// dims: rows, inputs, outputs.
template <class T>
void linear(const std::vector<long>& dims, nb::handle x, nb::handle weight, nb::handle bias, nb::handle y) {
  Linear<T> q = linear_of<T>(dims, x, weight);
  q.bias = data<const T>(bias, q.outputs, "bias");
  q.y_row = padded_row<T>(q.outputs);
  q.y = data<T>(y, q.rows * q.y_row, "y");
  const int threads = threads_for(double(q.rows) * q.inputs * q.outputs, 2e5);
  const Scratch scratch(arrays<T>().linear_work(q));
  run(threads, [&](const Worker& w) { arrays<T>().linear(q, scratch.get(), w); });
}

template <class T>
void linear_backward(const std::vector<long>& dims, nb::handle x, nb::handle weight, nb::handle dy, nb::handle dx,
                     nb::handle d_weight, nb::handle d_bias) {
  Linear<T> q = linear_of<T>(dims, x, weight);
  q.dy = matrix<T>(dy, q.rows, q.outputs, q.dy_row, "dy");
  q.dx_row = padded_row<T>(q.inputs);
  q.dx = data<T>(dx, q.rows * q.dx_row, "dx");
  q.d_weight = data<T>(d_weight, q.outputs * q.inputs, "d_weight");
  q.d_bias = data<T>(d_bias, q.outputs, "d_bias");
  const int threads = threads_for(double(q.rows) * q.inputs * q.outputs, 1e5);
  const Scratch scratch(arrays<T>().linear_backward_work(q));
  run(threads, [&](const Worker& w) { arrays<T>().linear_backward(q, scratch.get(), w); });
}

// table (V, E): the sum of the rows (N, E) of every token, in their order. Threads share the table's rows.
template <class T>
void embed_backward(nb::handle tokens, nb::handle rows, nb::handle table) {
  nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu> sums;
  nb::ndarray<const long long, nb::ndim<1>, nb::c_contig, nb::device::cpu> index;
  if (!nb::try_cast(table, sums, false)) throw nb::type_error("the table has another dtype or layout");
  if (!nb::try_cast(tokens, index, false)) throw nb::type_error("tokens have another dtype or layout");
  const long count = index.size(), size = sums.shape(0), width = sums.shape(1);
  long row = 0;
  const T* from = matrix<T>(rows, count, width, row, "rows");
  for (long i = 0; i < count; ++i)
    if (index.data()[i] < 0 || index.data()[i] >= size) throw nb::value_error("a token is outside the table");
  run(threads_for(double(size + count) * width, 3e4), [&](const Worker& w) {
    const Share mine(size, w);
    std::fill(sums.data() + mine.first * width, sums.data() + mine.last * width, T(0));
    for (long i = 0; i < count; ++i) {
      if (i % 1024 == 0 && !w.go_on()) return;
      const long token = index.data()[i];
      if (token < mine.first || token >= mine.last) continue;
      T* sum = sums.data() + token * width;
      for (long k = 0; k < width; ++k) sum[k] += from[i * row + k];
    }
  });
}

// Nats of each of N targets, and (unless d is None) scale times the gradient of their sum, of smoothed targets.
template <class T>
void cross_entropy(nb::handle logits, nb::handle targets, double scale, double smoothing, nb::handle nats,
                   nb::handle d) {
  nb::ndarray<const T, nb::ndim<2>, nb::device::cpu> shape;
  if (!nb::try_cast(logits, shape, false)) throw nb::type_error("logits have another dtype or rank");
  Loss<T> q = {};
  q.rows = shape.shape(0), q.size = shape.shape(1), q.scale = scale, q.smoothing = smoothing;
  q.logits = matrix<T>(logits, q.rows, q.size, q.logits_row, "logits");
  q.targets = data<const long long>(targets, q.rows, "targets");
  for (long i = 0; i < q.rows; ++i)
    if (q.targets[i] < 0 || q.targets[i] >= q.size) throw nb::value_error("a target is outside the logits");
  q.nats = data<double>(nats, q.rows, "nats");
  if (!d.is_none()) {
    nb::ndarray<T, nb::ndim<2>, nb::device::cpu> writable;
    if (!nb::try_cast(d, writable, false)) throw nb::type_error("d has another dtype or rank");
    q.d = const_cast<T*>(matrix<T>(d, q.rows, q.size, q.d_row, "d"));
  }
  run(threads_for(double(q.rows) * q.size, 2e4), [&](const Worker& w) { arrays<T>().cross_entropy(q, w); });
}

// Arrays cut into pieces that fit the cache: what threads share, and what partial sums belong to.
template <class T>
struct Cuts {
  static constexpr long piece = 8192;
  struct Piece {
    size_t array;
    long first, last;
  };
  std::vector<T*> arrays;
  std::vector<long> sizes;
  std::vector<Piece> pieces;
  double total = 0;

  explicit Cuts(nb::list list) {
    for (nb::handle h : list) {
      nb::ndarray<T, nb::c_contig, nb::device::cpu> a;
      if (!nb::try_cast(h, a, false)) throw nb::type_error("an array has another dtype or layout");
      for (long i = 0; i < long(a.size()); i += piece)
        pieces.push_back({arrays.size(), i, i + piece < long(a.size()) ? i + piece : long(a.size())});
      arrays.push_back(a.data()), sizes.push_back(a.size()), total += double(a.size());
    }
  }

  template <class Work>
  void each(const Work& work) const {
    run(threads_for(total, 3e4), [&](const Worker& w) {
      const Share mine(pieces.size(), w);
      for (long i = mine.first; i < mine.last; ++i) {
        if (i % 16 == 0 && !w.go_on()) return;
        work(i, pieces[i]);
      }
    });
  }
};

template <class T>
double sum_of_squares(nb::list list) {
  const Cuts<const T> cuts(list);
  std::vector<double> partial(cuts.pieces.size());
  cuts.each([&](long i, const auto& p) { partial[i] = arrays<T>().sum_of_squares(cuts.arrays[p.array] + p.first, p.last - p.first); });
  double total = 0;
  for (double part : partial) total += part;
  return total;
}

template <class T>
void scale(nb::list list, double factor) {
  const Cuts<T> cuts(list);
  cuts.each([&](long, const auto& p) { arrays<T>().scale(cuts.arrays[p.array] + p.first, p.last - p.first, T(factor)); });
}

template <class T>
void update(const std::string& name, nb::list params, nb::list grads, nb::list moments, const std::vector<double>& numbers,
            double decay) {
  const UpdateRule<T>* rule = nullptr;
  for (int i = 0; i < arrays<T>().rule_count; ++i)
    if (arrays<T>().rules[i].name == name) rule = arrays<T>().rules + i;
  if (!rule) throw nb::key_error(name.c_str());
  const Cuts<T> p(params);
  const Cuts<const T> g(grads);
  std::vector<Cuts<T>> m;
  for (nb::handle slot : moments) m.emplace_back(nb::cast<nb::list>(slot));
  bool fits = g.sizes == p.sizes && int(m.size()) == rule->moments && numbers.size() <= UPDATE_NUMBERS;
  for (const auto& slot : m) fits = fits && slot.sizes == p.sizes;
  if (!fits) throw nb::value_error("gradients or moments do not fit the parameters");
  p.each([&](long, const auto& piece) {
    Update<T> q = {};
    q.p = p.arrays[piece.array], q.g = g.arrays[piece.array], q.decay = T(decay);
    for (size_t k = 0; k < m.size(); ++k) q.moments[k] = m[k].arrays[piece.array];
    for (size_t k = 0; k < numbers.size(); ++k) q.numbers[k] = T(numbers[k]);
    rule->run(q, piece.first, piece.last);
  });
}

template <class T>
void define_network(nb::module_& m, const std::string& bits) {
  const auto name = [&](const char* text) { return text + bits; };
  m.def(name("linear").c_str(), &linear<T>, nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg());
  m.def(name("linear_backward").c_str(), &linear_backward<T>);
  m.def(name("embed_backward").c_str(), &embed_backward<T>);
  m.def(name("cross_entropy").c_str(), &cross_entropy<T>, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
        nb::arg().none());
  m.def(name("sum_of_squares").c_str(), &sum_of_squares<T>);
  m.def(name("scale").c_str(), &scale<T>);
  m.def(name("update").c_str(), &update<T>);
}
