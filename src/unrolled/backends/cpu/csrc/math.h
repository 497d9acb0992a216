// exp, sigmoid, tanh and log of a vector. The first three rest on e^r - 1 for |r| <= ln(2) / 2, as a polynomial q(r) = r + r^2 P(r) fitted at
// Chebyshev nodes (relative error 2.5e-8 for float, 5.5e-19 for double), so that tanh keeps its relative accuracy near 0.
//
// Largest error over dense ranges, in units of the last place, found by tests/conformance/test_functions.py:
// float: exp 2, sigmoid 3, tanh 3, log 2; double: exp 2, sigmoid 3, tanh 3, log 2. Results below the smallest normal number are flushed to 0.
#pragma once

#include "simd.h"

namespace unrolled::UNROLLED_ISA {

template <class V>
struct Reduced {
  V q;       // e^r - 1
  V n;       // x = n ln 2 + r
  V bits;    // n + a constant whose low bits are n, as an integer
};

INLINE Reduced<F> reduce(F x) {
  const F magic = splat<F>(12582912.0);  // 1.5 2^23: adding it rounds to a whole number
  const F bits = fma(x, splat<F>(1.44269504088896341), magic);
  const F n = bits - magic;
  F r = fma(n, splat<F>(-0.693359375), x);
  r = fma(n, splat<F>(2.12194440054690583e-4), r);
  F p = splat<F>(1.3926181810489285e-3);
  p = fma(p, r, splat<F>(8.3631776299944453e-3));
  p = fma(p, r, splat<F>(4.1666554627878084e-2));
  p = fma(p, r, splat<F>(1.6666576998242925e-1));
  p = fma(p, r, splat<F>(0.5));
  return {fma(r * r, p, r), n, bits};
}

INLINE Reduced<D> reduce(D x) {
  const D magic = splat<D>(6755399441055744.0);  // 1.5 2^52
  const D bits = fma(x, splat<D>(1.44269504088896341), magic);
  const D n = bits - magic;
  D r = fma(n, splat<D>(-6.93147180369123816490e-01), x);
  r = fma(n, splat<D>(-1.90821492927058770002e-10), r);
  D p = splat<D>(2.0913580617057717e-9);
  p = fma(p, r, splat<D>(2.5105202264489707e-8));
  p = fma(p, r, splat<D>(2.7557277011449118e-7));
  p = fma(p, r, splat<D>(2.7557255438384482e-6));
  p = fma(p, r, splat<D>(2.4801587322040909e-5));
  p = fma(p, r, splat<D>(1.9841269874790572e-4));
  p = fma(p, r, splat<D>(1.3888888888885170e-3));
  p = fma(p, r, splat<D>(8.3333333333261409e-3));
  p = fma(p, r, splat<D>(4.1666666666666668e-2));
  p = fma(p, r, splat<D>(1.6666666666666671e-1));
  p = fma(p, r, splat<D>(0.5));
  return {fma(r * r, p, r), n, bits};
}

template <class V>
struct Float;  // the format's numbers

template <>
struct Float<F> {
  typedef Lanes<float>::U U;
  static constexpr int mantissa = 23, bias = 127;
  static constexpr double exp_low = -87.5, exp_high = 89.0, sigmoid_high = 88.0, tanh_high = 9.1, smallest = 1.17549435082228751e-38;
};

template <>
struct Float<D> {
  typedef Lanes<double>::U U;
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double exp_low = -708.5, exp_high = 710.0, sigmoid_high = 709.0, tanh_high = 19.1, smallest = 2.2250738585072014e-308;
};

// a / b for b that is neither 0 nor infinite nor denormal; within 2 units of the last place.
#if defined(__AVX512F__) && UNROLLED_BYTES == 64
INLINE F divide(F a, F b) {  // an estimate to 14 bits and a step of Newton's take a third of a division's time
  F r = (F)_mm512_rcp14_ps((__m512)b);
  r = fma(fnma(b, r, splat<F>(1.0)), r, r);
  return a * r;
}
INLINE D divide(D a, D b) { return a / b; }
#else
template <class V>
INLINE V divide(V a, V b) {
  return a / b;
}
#endif

// e^x; inf above the largest number, 0 below the smallest normal one, NaN for NaN.
template <class V>
INLINE V exp(V x) {
  typedef Float<V> f;
  typedef typename f::U U;
  const V low = splat<V>(f::exp_low), high = splat<V>(f::exp_high);
  x = x < low ? low : x;
  x = x > high ? high : x;
  const Reduced<V> e = reduce(x);
  // 2^n as two factors, since n may be one more than the largest exponent; with the bias in, all of it is positive.
  const U biased = ((U)e.bits + 2 * f::bias) & (U{} + 4095);
  const U first = biased >> 1, second = biased - first;
  const V scale = (V)(second << f::mantissa);
  return (V)(first << f::mantissa) * fma(e.q, scale, scale);
}

// 1 / (1 + e^-x); 0 where that is below the smallest normal number, NaN for NaN.
template <class V>
INLINE V sigmoid(V x) {
  typedef Float<V> f;
  typedef typename f::U U;
  V a = -x;
  const V low = splat<V>(f::exp_low + 0.5), high = splat<V>(f::sigmoid_high);
  a = a < low ? low : a;
  a = a > high ? high : a;
  const Reduced<V> e = reduce(a);
  const V scale = (V)(((U)e.bits + f::bias) << f::mantissa);  // 2^n, which is a normal number in this range
  return divide(splat<V>(1.0), fma(e.q, scale, scale) + splat<V>(1.0));
}

// tanh x = sign(x) t / (t + 2) with t = e^(2 |x|) - 1, which is exact to the last places for tiny x too.
template <class V>
INLINE V tanh(V x) {
  typedef Float<V> f;
  typedef typename f::U U;
  const U sign = (U)x & (U)splat<V>(-0.0);
  V a = (V)((U)x ^ sign);
  const V high = splat<V>(f::tanh_high);
  a = a > high ? high : a;
  const Reduced<V> e = reduce(a + a);
  const V scale = (V)(((U)e.bits + f::bias) << f::mantissa);  // 2^n
  const V t = fma(scale, e.q, scale - splat<V>(1.0));
  return (V)((U)divide(t, t + splat<V>(2.0)) | sign);
}

// log x = k ln 2 + 2 artanh(s), where x = 2^k m with m from sqrt(1/2) to sqrt(2) and s = (m - 1) / (m + 1), at most
// 0.172 in size: artanh's own series. -inf for 0 and denormals, NaN for negative numbers.
template <class V>
INLINE V log(V x) {
  typedef Float<V> f;
  typedef typename f::U U;
  typedef decltype(x < x) I;
  const I k = (I)((U)x - (U)splat<V>(0.70710678118654752)) >> f::mantissa;
  const V m = (V)((U)x - ((U)k << f::mantissa)), n = __builtin_convertvector(k, V);
  const V s = (m - splat<V>(1.0)) / (m + splat<V>(1.0)), z = s * s;
  constexpr int terms = f::mantissa > 32 ? 11 : 5;
  V p = splat<V>(1.0 / (2 * terms + 1));
#pragma GCC unroll 16
  for (int i = terms - 1; i > 0; --i) p = fma(p, z, splat<V>(1.0 / (2 * i + 1)));
  const V twice = s + s, high = splat<V>(f::mantissa > 32 ? 6.93147180369123816490e-01 : 0.693359375);
  const V low = splat<V>(f::mantissa > 32 ? 1.90821492927058770002e-10 : -2.12194440054690583e-4);
  V y = fma(n, high, twice + fma(n, low, twice * z * p));
  y = x < splat<V>(f::smallest) ? splat<V>(-__builtin_inf()) : y;
  y = x < splat<V>(0.0) ? splat<V>(__builtin_nan("")) : y;
  return (x == splat<V>(__builtin_inf())) | (x != x) ? x : y;
}

// The processors' own, which round as IEEE 754 asks.
#if defined(__AVX512F__) && UNROLLED_BYTES == 64
INLINE F sqrt(F a) { return (F)_mm512_sqrt_ps((__m512)a); }
INLINE D sqrt(D a) { return (D)_mm512_sqrt_pd((__m512d)a); }
#elif defined(__AVX__) && UNROLLED_BYTES == 32
INLINE F sqrt(F a) { return (F)_mm256_sqrt_ps((__m256)a); }
INLINE D sqrt(D a) { return (D)_mm256_sqrt_pd((__m256d)a); }
#elif defined(__x86_64__)
INLINE F sqrt(F a) { return (F)_mm_sqrt_ps((__m128)a); }
INLINE D sqrt(D a) { return (D)_mm_sqrt_pd((__m128d)a); }
#elif defined(__aarch64__)
INLINE F sqrt(F a) { return (F)vsqrtq_f32((float32x4_t)a); }
INLINE D sqrt(D a) { return (D)vsqrtq_f64((float64x2_t)a); }
#else
template <class V>
INLINE V sqrt(V a) {
  for (unsigned i = 0; i < sizeof(V) / sizeof(a[0]); ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
}
#endif

#define UNROLLED_EACH(f)              \
  template <class V>                  \
  INLINE Two<V> f(Two<V> x) {         \
    return {f(x.a), f(x.b)};          \
  }
UNROLLED_EACH(exp)
UNROLLED_EACH(sigmoid)
UNROLLED_EACH(tanh)
UNROLLED_EACH(log)
UNROLLED_EACH(sqrt)
#undef UNROLLED_EACH

}  // namespace unrolled::UNROLLED_ISA
