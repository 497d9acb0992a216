// Binding of draw.h: an object that keeps a language network's weights packed, its state, and the memory of one step.
// Part of engine.cpp.
#pragma once

template <class T>
class Drawer {
  std::vector<std::unique_ptr<Scratch>> blocks_;
  std::vector<Layer<T>> layers_;
  std::vector<char*> work_;
  nb::object embedding_;  // kept alive: its rows are read
  const Kernels* kernels_ = state->kernels;
  const ScanKernels<T>& scan_;
  Drawing<T> q_ = {};
  long long token_ = 0;
  long hidden_ = 0;
  int threads_ = 1;

  template <class U>
  U* piece(size_t count, bool zeros = true) {
    const size_t bytes = count * sizeof(U);
    blocks_.push_back(std::make_unique<Scratch>(bytes));
    if (zeros) memset(blocks_.back()->get(), 0, bytes);
    return reinterpret_cast<U*>(blocks_.back()->get());
  }

 public:
  Drawer(const Drawer&) = delete;

  // dims: inputs of the first layer, hidden, row blocks R, columns K, number of per-unit parameters, state fields, V.
  Drawer(const std::string& cell, const std::vector<long>& dims, nb::list weights, nb::object embedding, nb::handle decoder,
         nb::handle bias)
      : embedding_(embedding), scan_(scan_of<T>(cell)) {
    if (dims.size() != 7) throw nb::value_error("dims has 7 entries");
    const long rows = dims[2], columns = dims[3], vocabulary = dims[6];
    hidden_ = dims[1];
    const long padded = padded_row<T>(hidden_);
    q_.states = int(dims[5]), q_.padded = padded, q_.token = &token_, q_.step = scan_.step;
    q_.embedding = data<const T>(embedding, vocabulary * dims[0], "embedding");
    double products = double(vocabulary) * hidden_;
    for (size_t l = 0; l < weights.size(); ++l) products += double(rows) * hidden_ * (columns + (l ? hidden_ : dims[0]));
    threads_ = products < 1e5 ? 1 : state->threads;
    for (size_t l = 0; l < weights.size(); ++l) {
      const nb::dict w = nb::cast<nb::dict>(weights[l]);
      Layer<T> q = {};
      q.steps = q.batch = 1, q.inputs = l ? hidden_ : dims[0], q.hidden = hidden_;
      q.by_panels = q.plain = true, q.threads = threads_;
      q.weight_ih = data<const T>(w["weight_ih"], rows * hidden_ * q.inputs, "weight_ih");
      q.weight_hh = data<const T>(w["weight_hh"], rows * hidden_ * columns, "weight_hh");
      q.bias_ih = data<const T>(w["bias_ih"], rows * hidden_, "bias_ih");
      q.bias_hh = data<const T>(w["bias_hh"], rows * hidden_, "bias_hh");
      q.params = data<const T>(w["params"], dims[4] * hidden_, "params");
      for (int f = 0; f < q_.states; ++f) q.states[f] = piece<T>(2 * padded);
      q.x_row = q.inputs;
      if (l)
        q.x = layers_[l - 1].states[0] + padded;
      else if (q_.embedding)
        q.x = q_.embedding;
      else
        q.tokens = &token_, q.table = true;
      layers_.push_back(q);
      work_.push_back(piece<char>(scan_.forward_work(q), false));
    }
    q_.layers = long(layers_.size()), q_.layer = layers_.data(), q_.work = work_.data();
    Linear<T>& d = q_.decoder;
    d.rows = 1, d.inputs = hidden_, d.outputs = vocabulary, d.x = layers_.back().states[0] + padded, d.x_row = padded;
    d.weight = data<const T>(decoder, vocabulary * hidden_, "decoder");
    d.bias = data<const T>(bias, vocabulary, "bias");
    d.y_row = padded_row<T>(vocabulary), d.y = piece<T>(d.y_row);
    q_.decoder_work = piece<char>(kernels().linear_work(d), false);
    q_.blocks = (vocabulary + PICK_BLOCK - 1) / PICK_BLOCK;
    q_.weights = piece<double>(q_.blocks * PICK_BLOCK), q_.sums = piece<double>(q_.blocks);
    run(threads_, [&](const Worker& w) {
      for (size_t l = 0; l < layers_.size(); ++l) scan_.prepare(layers_[l], work_[l], w);
      kernels().linear_prepare(q_.decoder, q_.decoder_work, w);
    });
    for (Layer<T>& q : layers_) q.weight_ih = q.weight_hh = q.bias_ih = q.bias_hh = q.params = nullptr;  // packed by now
    d.weight = d.bias = nullptr;
  }

  const ArrayKernels<T>& kernels() const {
    if constexpr (sizeof(T) == 4)
      return kernels_->f32;
    else
      return kernels_->f64;
  }

  // Fields of the state, each (L, H).
  void set_state(nb::list fields) {
    for (int f = 0; f < q_.states; ++f) {
      const T* from = data<const T>(fields[f], layers_.size() * hidden_, "state");
      for (size_t l = 0; l < layers_.size(); ++l) memcpy(layers_[l].states[f], from + l * hidden_, hidden_ * sizeof(T));
    }
  }

  // Feeds `token`, draws the next with u[0], feeds that, and so on; `drawn` is as long as `u`.
  void draw(long long token, nb::handle u, double temperature, nb::handle drawn) {
    nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu> numbers;
    if (!nb::try_cast(u, numbers, false)) throw nb::type_error("u has another dtype or layout");
    if (token < 0 || token >= q_.decoder.outputs) throw nb::value_error("the token is outside the vocabulary");
    q_.u = numbers.data(), q_.count = long(numbers.size()), q_.temperature = temperature;
    q_.drawn = data<long long>(drawn, numbers.size(), "drawn");
    token_ = token;
    if (q_.embedding) layers_[0].x = q_.embedding + token * layers_[0].inputs;
    run(threads_, [&](const Worker& w) { kernels().draw(q_, w); });
  }

  static void define(nb::module_& m, const char* name) {
    nb::class_<Drawer>(m, name)
        .def(nb::init<const std::string&, const std::vector<long>&, nb::list, nb::object, nb::handle, nb::handle>(), nb::arg(),
             nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg().none())
        .def("set_state", &Drawer::set_state)
        .def("draw", &Drawer::draw);
  }
};
