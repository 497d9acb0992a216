// Vectors of one register, for float and double, from the compilers' vector extensions. UNROLLED_ISA is the instruction
// set, whose namespace keeps its copy apart; UNROLLED_BYTES the width of its registers.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace unrolled::UNROLLED_ISA {

template <class T>
struct Lanes;

template <>
struct Lanes<float> {
  typedef float V __attribute__((vector_size(UNROLLED_BYTES)));
  typedef float Loose __attribute__((vector_size(UNROLLED_BYTES), aligned(4), may_alias));
  typedef int I __attribute__((vector_size(UNROLLED_BYTES)));
  typedef unsigned U __attribute__((vector_size(UNROLLED_BYTES)));
};

template <>
struct Lanes<double> {
  typedef double V __attribute__((vector_size(UNROLLED_BYTES)));
  typedef double Loose __attribute__((vector_size(UNROLLED_BYTES), aligned(8), may_alias));
  typedef long I __attribute__((vector_size(UNROLLED_BYTES)));
  typedef unsigned long U __attribute__((vector_size(UNROLLED_BYTES)));
};

template <class T>
using Vec = typename Lanes<T>::V;

template <class T>
constexpr int W = UNROLLED_BYTES / sizeof(T);  // units in a vector

typedef Vec<float> F;
typedef Vec<double> D;

#define INLINE static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))  // once in the library, not once a caller

// Two vectors that go through a map side by side: its long chains of instructions then wait for each other less.
template <class V>
struct Two {
  V a, b;
};

template <class V>
struct Splat {
  INLINE V of(double x) {
    typedef decltype(V{}[0] + V{}[0]) T;
    return T(x) - V{};  // x - 0 is x, for -0 too
  }
};
template <class V>
struct Splat<Two<V>> {
  INLINE Two<V> of(double x) { return {Splat<V>::of(x), Splat<V>::of(x)}; }
};
template <class V>
INLINE V splat(double x) {
  return Splat<V>::of(x);
}

#define UNROLLED_EACH(op)                                               \
  template <class V>                                                    \
  INLINE auto operator op(Two<V> x, Two<V> y)->Two<decltype(x.a op y.a)> { \
    return {x.a op y.a, x.b op y.b};                                    \
  }
UNROLLED_EACH(+)
UNROLLED_EACH(-)
UNROLLED_EACH(*)
UNROLLED_EACH(/)
UNROLLED_EACH(<)
UNROLLED_EACH(<=)
UNROLLED_EACH(>)
UNROLLED_EACH(>=)
UNROLLED_EACH(==)
UNROLLED_EACH(!=)
#undef UNROLLED_EACH
template <class V>
INLINE Two<V> operator-(Two<V> x) {
  return {-x.a, -x.b};
}

template <class T>
INLINE Vec<T> broadcast(const T* p) {
  return *p - Vec<T>{};
}

template <class T>
INLINE Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename Lanes<T>::Loose*>(p);
}

template <class T>
INLINE void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename Lanes<T>::Loose*>(p) = v;
}

template <class T>
INLINE void copy(T* to, const T* from, long n) {
  for (long i = 0; i < n; ++i) to[i] = from[i];
}

// The first n lanes of memory, zeros in the others; nothing beyond is read.
#if defined(__AVX512F__) && UNROLLED_BYTES == 64
INLINE unsigned lanes_mask(long n) { return n >= 16 ? 0xffffu : (1u << n) - 1; }
INLINE F load(const float* p, long n) { return (F)_mm512_maskz_loadu_ps((__mmask16)lanes_mask(n), p); }
INLINE D load(const double* p, long n) { return (D)_mm512_maskz_loadu_pd((__mmask8)lanes_mask(n), p); }
INLINE void store(float* p, F v, long n) { _mm512_mask_storeu_ps(p, (__mmask16)lanes_mask(n), (__m512)v); }
INLINE void store(double* p, D v, long n) { _mm512_mask_storeu_pd(p, (__mmask8)lanes_mask(n), (__m512d)v); }
#else
template <class T>
INLINE Vec<T> load(const T* p, long n) {
  if (__builtin_expect(n >= W<T>, 1)) return load(p);
  alignas(64) T lanes[W<T>] = {};
  for (long i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}

template <class T>
INLINE void store(T* p, Vec<T> v, long n) {
  if (__builtin_expect(n >= W<T>, 1)) return store(p, v);
  alignas(64) T lanes[W<T>];
  store(lanes, v);
  for (long i = 0; i < n; ++i) p[i] = lanes[i];
}
#endif

// a b + c with one rounding where the machine has that instruction: chosen here, never by the compiler
// (-ffp-contract=off), so that the same sum has the same bits in every kernel that it occurs in.
#if defined(__AVX512F__) && UNROLLED_BYTES == 64
INLINE F fma(F a, F b, F c) { return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE D fma(D a, D b, D c) { return (D)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
#elif defined(__FMA__) && UNROLLED_BYTES == 32
INLINE F fma(F a, F b, F c) { return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE D fma(D a, D b, D c) { return (D)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
#elif defined(__aarch64__) && UNROLLED_BYTES == 16
INLINE F fma(F a, F b, F c) { return (F)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE D fma(D a, D b, D c) { return (D)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
#else
template <class V>
INLINE V fma(V a, V b, V c) {
  return a * b + c;
}
#endif

template <class V>
INLINE Two<V> fma(Two<V> x, Two<V> y, Two<V> z) {
  return {fma(x.a, y.a, z.a), fma(x.b, y.b, z.b)};
}

// Of whole numbers in 16 bits, two a lane: the sum of the two products.
INLINE Lanes<float>::I multiply_pairs(Lanes<float>::I a, Lanes<float>::I b) {
#if defined(__AVX512BW__) && UNROLLED_BYTES == 64
  return (Lanes<float>::I)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__) && UNROLLED_BYTES == 32
  return (Lanes<float>::I)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__x86_64__) && UNROLLED_BYTES == 16
  return (Lanes<float>::I)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

template <class V>
INLINE V fnma(V a, V b, V c) {  // c - a b
  return fma(-a, b, c);
}

template <class V>
INLINE V fms(V a, V b, V c) {  // a b - c
  return fma(a, b, -c);
}

template <class M, class V>
INLINE V select(M mask, V a, V b) {
  return mask ? a : b;
}

template <class M, class V>
INLINE Two<V> select(Two<M> mask, Two<V> x, Two<V> y) {
  return {select(mask.a, x.a, y.a), select(mask.b, x.b, y.b)};
}

template <class V>
INLINE V maximum(V a, V b) {  // a NaN in either stays one, as in NumPy
  return (a >= b) | (a != a) ? a : b;
}

template <class V>
INLINE Two<V> maximum(Two<V> x, Two<V> y) {
  return {maximum(x.a, y.a), maximum(x.b, y.b)};
}

// A vector at p; or two of them, `step` apart. With n (and m for the second): its first n lanes, zeros in the others.
template <class V>
struct At {
  template <class T>
  INLINE V read(const T* p, long) { return load(p); }
  template <class T>
  INLINE V read(const T* p, long, long n, long) { return load(p, n); }
  template <class T>
  INLINE void write(T* p, long, V v) { store(p, v); }
};
template <class V>
struct At<Two<V>> {
  template <class T>
  INLINE Two<V> read(const T* p, long step) { return {load(p), load(p + step)}; }
  template <class T>
  INLINE Two<V> read(const T* p, long step, long n, long m) { return {load(p, n), load(p + step, m)}; }
  template <class T>
  INLINE void write(T* p, long step, Two<V> v) { store(p, v.a), store(p + step, v.b); }
};

template <class V>
INLINE V larger(V a, V b) {  // b where one is a NaN
  return a > b ? a : b;
}

// A mask of the first n < W lanes.
template <class T>
INLINE typename Lanes<T>::I first_lanes(long n) {
  typename Lanes<T>::I mask = {};
  for (int i = 0; i < W<T>; ++i) mask[i] = i < n ? -1 : 0;
  return mask;
}

// Lanes of bytes that are set, as a mask of the vector type's comparisons.
template <class T>
INLINE typename Lanes<T>::I byte_mask(const unsigned char* p, long n) {
  typename Lanes<T>::I mask = {};
  for (long i = 0; i < n && i < W<T>; ++i) mask[i] = p[i] ? -1 : 0;
  return mask;
}

template <class T>
INLINE T largest_lane(Vec<T> v) {
#if defined(__AVX512F__) && UNROLLED_BYTES == 64
  if constexpr (sizeof(T) == 4)
    return _mm512_reduce_max_ps((__m512)v);
  else
    return _mm512_reduce_max_pd((__m512d)v);
#else
  T most = v[0];
  for (int i = 1; i < W<T>; ++i) most = v[i] > most ? v[i] : most;
  return most;
#endif
}

template <class T>
INLINE T sum_of_lanes(Vec<T> v) {
#if defined(__AVX512F__) && UNROLLED_BYTES == 64
  if constexpr (sizeof(T) == 4)
    return _mm512_reduce_add_ps((__m512)v);
  else
    return _mm512_reduce_add_pd((__m512d)v);
#else
  T total = 0;
  for (int i = 0; i < W<T>; ++i) total += v[i];
  return total;
#endif
}

// The largest of n numbers.
template <class T>
static T largest(const T* x, long n) {
  const long whole = n / W<T> * W<T>, left = n - whole;
  Vec<T> high = broadcast(x);
  for (long i = 0; i < whole; i += W<T>) high = larger(load(x + i), high);
  if (left) high = larger(select(first_lanes<T>(left), load(x + whole, left), high), high);
  return largest_lane<T>(high);
}

// Transposes W x W numbers in registers: log2(W) rounds of a perfect shuffle of the rows' halves.
template <int... N>
struct Indices {};
template <int N, int... Rest>
struct MakeIndices : MakeIndices<N - 1, N - 1, Rest...> {};
template <int... Rest>
struct MakeIndices<0, Rest...> {
  typedef Indices<Rest...> type;
};

template <class V, int... N>
INLINE V zip_low(V a, V b, Indices<N...>) {
  constexpr int width = sizeof...(N);
  return __builtin_shufflevector(a, b, (N / 2 + (N % 2) * width)...);
}

template <class V, int... N>
INLINE V zip_high(V a, V b, Indices<N...>) {
  constexpr int width = sizeof...(N);
  return __builtin_shufflevector(a, b, (width / 2 + N / 2 + (N % 2) * width)...);
}

template <class T>
INLINE void transpose(Vec<T>* rows) {
  constexpr int w = W<T>;
  typename MakeIndices<w>::type indices;
  for (int round = 1; round < w; round *= 2) {
    Vec<T> next[w];
#pragma GCC unroll 16
    for (int i = 0; i < w / 2; ++i) {
      next[2 * i] = zip_low(rows[i], rows[i + w / 2], indices);
      next[2 * i + 1] = zip_high(rows[i], rows[i + w / 2], indices);
    }
#pragma GCC unroll 16
    for (int i = 0; i < w; ++i) rows[i] = next[i];
  }
}

}  // namespace unrolled::UNROLLED_ISA
