// Bindings of what works on all parameters at once: update rules, norms, scaling.
#pragma once

#include <string>
#include <vector>

#include "binding.h"
#include "kernels.h"
#include "runtime.h"
#include "team.h"

namespace unrolled {

// Arrays cut into pieces that fit the cache: what threads share, and what partial sums belong to.
template <class T>
struct Cuts {
  static constexpr long piece = 8192;
  struct Piece {
    size_t array;
    long first, last;
  };
  Arrays held;
  std::vector<T*> arrays;
  std::vector<long> sizes;
  std::vector<Piece> pieces;
  double total = 0;

  explicit Cuts(nb::list list) {
    for (nb::handle h : list) {
      long size = 0;
      T* numbers = held.any<T>(h, size, "an array");
      for (long i = 0; i < size; i += piece) pieces.push_back({arrays.size(), i, i + piece < size ? i + piece : size});
      arrays.push_back(numbers), sizes.push_back(size), total += double(size);
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
  cuts.each([&](long i, const auto& p) {
    partial[i] = array_kernels<T>().sum_of_squares(cuts.arrays[p.array] + p.first, p.last - p.first);
  });
  double total = 0;
  for (double part : partial) total += part;
  return total;
}

template <class T>
void scale(nb::list list, double factor) {
  const Cuts<T> cuts(list);
  cuts.each([&](long, const auto& p) { array_kernels<T>().scale(cuts.arrays[p.array] + p.first, p.last - p.first, T(factor)); });
}

template <class T>
void update(const std::string& name, nb::list params, nb::list grads, nb::list moments, const std::vector<double>& numbers,
            double decay) {
  const UpdateRule<T>* rule = nullptr;
  for (int i = 0; i < array_kernels<T>().rule_count; ++i)
    if (array_kernels<T>().rules[i].name == name) rule = array_kernels<T>().rules + i;
  if (!rule) throw nb::key_error(name.c_str());
  const Cuts<T> p(params);
  const Cuts<const T> g(grads);
  std::vector<Cuts<T>> m;
  for (nb::handle slot : moments) {
    require(nb::isinstance<nb::list>(slot), "a list of moments");
    m.emplace_back(nb::cast<nb::list>(slot));
  }
  bool fits = g.sizes == p.sizes && long(m.size()) == rule->moments && numbers.size() <= UPDATE_NUMBERS;
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
void define_optim(nb::module_& m) {
  m.def(named<T>("sum_of_squares").c_str(), &sum_of_squares<T>);
  m.def(named<T>("scale").c_str(), &scale<T>);
  m.def(named<T>("update").c_str(), &update<T>);
}

}  // namespace unrolled
