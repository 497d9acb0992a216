// Update rules in place, and the sum of squares. The equations and the order of their operations are those of
// unrolled/optim.py; entries do not touch each other, so any share of them gives the same bits.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

#if defined(__AVX512F__) && UNROLLED_BYTES == 64
INLINE F root(F a) { return (F)_mm512_sqrt_ps((__m512)a); }
INLINE D root(D a) { return (D)_mm512_sqrt_pd((__m512d)a); }
#elif defined(__AVX__) && UNROLLED_BYTES == 32
INLINE F root(F a) { return (F)_mm256_sqrt_ps((__m256)a); }
INLINE D root(D a) { return (D)_mm256_sqrt_pd((__m256d)a); }
#elif defined(__x86_64__)
INLINE F root(F a) { return (F)_mm_sqrt_ps((__m128)a); }
INLINE D root(D a) { return (D)_mm_sqrt_pd((__m128d)a); }
#elif defined(__aarch64__)
INLINE F root(F a) { return (F)vsqrtq_f32((float32x4_t)a); }
INLINE D root(D a) { return (D)vsqrtq_f64((float64x2_t)a); }
#else
template <class V>
INLINE V root(V a) {
  for (unsigned i = 0; i < sizeof(V) / sizeof(a[0]); ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
}
#endif

// One vector of a rule: p and its moments m change; c are the rule's numbers in the order that optim.py lists them.
template <class V>
struct Rules {
  INLINE void sgd(V& p, V g, V*, const V* c) { p -= g * c[0]; }

  INLINE void momentum(V& p, V g, V* m, const V* c) {  // rate, momentum
    m[0] = m[0] * c[1] + g;
    p -= m[0] * c[0];
  }

  INLINE void nesterov(V& p, V g, V* m, const V* c) {  // rate, momentum
    m[0] = m[0] * c[1] + g;
    p -= (m[0] * c[1] + g) * c[0];
  }

  INLINE void adagrad(V& p, V g, V* m, const V* c) {  // rate, eps
    m[0] += g * g;
    p -= g / (root(m[0]) + c[1]) * c[0];
  }

  INLINE void rmsprop(V& p, V g, V* m, const V* c) {  // rate, eps, alpha, 1 - alpha
    m[0] = m[0] * c[2] + g * g * c[3];
    p -= g / (root(m[0]) + c[1]) * c[0];
  }

  INLINE void adadelta(V& p, V g, V* m, const V* c) {  // rate, eps, rho, 1 - rho
    m[0] = m[0] * c[2] + g * g * c[3];
    const V d = root(m[1] + c[1]) / root(m[0] + c[1]) * g;
    m[1] = m[1] * c[2] + d * d * c[3];
    p -= d * c[0];
  }

  // rate / (1 - b1^t), eps, b1, 1 - b1, b2, 1 - b2, sqrt(1 - b2^t), 1 - rate weight_decay (AdamW; else 1)
  INLINE void adam(V& p, V g, V* m, const V* c) {
    m[0] = m[0] * c[2] + g * c[3];
    m[1] = m[1] * c[4] + g * g * c[5];
    p = p * c[7] - m[0] / (root(m[1]) / c[6] + c[1]) * c[0];
  }
};

template <class T, int MOMENTS, void (*rule)(Vec<T>&, Vec<T>, Vec<T>*, const Vec<T>*)>
static void update(const Update<T>& q, long first, long last) {
  typedef Vec<T> V;
  V c[UPDATE_NUMBERS];
  for (int i = 0; i < UPDATE_NUMBERS; ++i) c[i] = broadcast(q.numbers + i);
  const V decay = broadcast(&q.decay);
  for (long i = first; i < last; i += W<T>) {
    const long n = last - i;
    V p = load(q.p + i, n), g = load(q.g + i, n), m[2] = {};
    if (q.decay != 0) g = p * decay + g;
    for (int k = 0; k < MOMENTS; ++k) m[k] = load(q.moments[k] + i, n);
    rule(p, g, m, c);
    store(q.p + i, p, n);
    for (int k = 0; k < MOMENTS; ++k) store(q.moments[k] + i, m[k], n);
  }
}

template <class T>
static constexpr UpdateRule<T> update_rules[] = {
    {"sgd", 0, update<T, 0, Rules<Vec<T>>::sgd>},           {"momentum", 1, update<T, 1, Rules<Vec<T>>::momentum>},
    {"nesterov", 1, update<T, 1, Rules<Vec<T>>::nesterov>}, {"adagrad", 1, update<T, 1, Rules<Vec<T>>::adagrad>},
    {"rmsprop", 1, update<T, 1, Rules<Vec<T>>::rmsprop>},   {"adadelta", 2, update<T, 2, Rules<Vec<T>>::adadelta>},
    {"adam", 2, update<T, 2, Rules<Vec<T>>::adam>}};

// Sum of the squares of x, in double: 8 sums side by side, each in one order.
template <class T>
static double sum_of_squares(const T* x, long n) {
  double sums[8] = {};
  long i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) sums[k] += double(x[i + k]) * double(x[i + k]);
  double total = 0;
  for (; i < n; ++i) total += double(x[i]) * double(x[i]);
  for (int k = 0; k < 8; ++k) total += sums[k];
  return total;
}

template <class T>
static void scale(T* x, long n, T factor) {
  const Vec<T> f = broadcast(&factor);
  for (long i = 0; i < n; i += W<T>) store(x + i, load(x + i, n - i) * f, n - i);
}

}  // namespace unrolled::UNROLLED_ISA
