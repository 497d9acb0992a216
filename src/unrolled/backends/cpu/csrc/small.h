// Weights of fewer bits, and products of one row with them. Two numbers of a column, of k and of k + 1, lie side by side.
// bfloat16 is widened to float, and summed in the order of tile.h: the same bits. int8 is multiplied with the row as 16-bit
// whole numbers, whose sums are exact, whatever the tile and the instruction set; then times the scales of column and row.
#pragma once

#include <limits.h>

#include "kernels.h"
#include "panels.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

constexpr int LARGEST_INT8 = 127;

INLINE long even(long depth) { return depth + depth % 2; }

// Numbers of type T that a packed weight takes.
template <class T>
static long packed_size(const Groups<T>& columns, long depth, Form form) {
  return form == Form::WHOLE ? columns.size(depth) : columns.size(even(depth)) / (form == Form::INT8 ? 4 : 2);
}

// Where a group of columns begins.
template <class T>
INLINE const char* packed_group(const T* packed, const Groups<T>& columns, long group, long depth, Form form) {
  return reinterpret_cast<const char*>(packed) + columns.packed(group, even(depth)) * (form == Form::INT8 ? 1 : 2);
}

// One row of a panel, `step` pairs of numbers between one pair and the next.
static void pack_small_row(char* to, long step, const float* row, long depth, Form form, float scale) {
  for (long k = 0; k < even(depth); k += 2, to += step * (form == Form::INT8 ? 2 : 4)) {
    const float pair[2] = {row[k], k + 1 < depth ? row[k + 1] : 0};
    if (form == Form::INT8) {
      for (int i = 0; i < 2; ++i) to[i] = (signed char)(scale > 0 ? pair[i] / scale : 0);
    } else {
      unsigned bits[2];
      __builtin_memcpy(bits, pair, sizeof(bits));
      const unsigned word = bits[0] >> 16 | (bits[1] & 0xffff0000u);
      __builtin_memcpy(to, &word, sizeof(word));
    }
  }
}

// As pack_transposed, to the form of the weight: (group, pair of k, panel, gate, W, 2).
template <class T>
static void pack_weight(T* to, const T* w, long ld, long hidden, long depth, const Groups<T>& g, long gfirst, long glast,
                        const Rounding<T>& rounding) {
  const Form form = rounding.form;
  if (form == Form::WHOLE) return pack_transposed(to, w, ld, hidden, depth, g, gfirst, glast);
  if constexpr (sizeof(T) == sizeof(float)) {
    const long bytes = form == Form::INT8 ? 2 : 4;  // of a pair
    for (long group = gfirst; group < glast; ++group) {
      const long vectors = g.vectors(group);
      char* base = const_cast<char*>(packed_group(to, g, group, depth, form));
      __builtin_memset(base, 0, even(depth) / 2 * vectors * W<T> * bytes);
      for (long v = 0; v < vectors; ++v)
        for (long i = 0; i < W<T>; ++i) {
          const long unit = (g.first(group) + v / g.per) * W<T> + i, row = v % g.per * hidden + unit;
          if (unit < hidden)
            pack_small_row(base + (v * W<T> + i) * bytes, vectors * W<T>, w + row * ld, depth, form,
                           rounding.scale ? rounding.scale[row] : 0);
        }
    }
  }
}

// The left operand: a row, and for int8 the whole numbers nearest to x / step.
template <class T>
struct SmallRow {
  const T* x;
  const short* whole;
  T step;
};

// Numbers of scratch memory that each thread needs for a row.
template <class T>
static long whole_row(long depth) {
  return (depth + W<T> - 1) / W<T> * W<T>;
}

typedef short Shorts __attribute__((vector_size(UNROLLED_BYTES / 2)));

// The step is such that no sum of products with int8 exceeds an int; it is NaN where the row is not finite.
static NOINLINE float round_row(short* to, const float* x, long depth) {
  typedef Lanes<float>::I I;
  F high = {}, odd = {};
  for (long k = 0; k < depth; k += W<float>) {
    const F v = load(x + k, depth - k);
    high = larger(v, larger(-v, high)), odd += v - v;
  }
  const long fit = INT_MAX / LARGEST_INT8 / depth, most = fit < SHRT_MAX ? (fit < 1 ? 1 : fit) : SHRT_MAX;
  const float step = largest_lane<float>(high) / float(most), inverse = step >= 1.17549435e-38f ? 1 / step : 0;
  const F magic = splat<F>(12582912);  // 1.5 times 2^23: the sum's last bits are the nearest whole number
  for (long k = 0; k < depth; k += W<float>) {
    const I bits = (I)(load(x + k, depth - k) * inverse + magic);
    const Shorts whole = __builtin_convertvector(bits, Shorts);
    __builtin_memcpy(to + k, &whole, sizeof(whole));
  }
  return step + sum_of_lanes<float>(odd);
}

template <class T>
static SmallRow<T> small_row(Form form, const T* x, long depth, short* scratch) {
  if constexpr (sizeof(T) == sizeof(float)) return {x, scratch, form == Form::INT8 ? round_row(scratch, x, depth) : 0};
  return {x, scratch, 0};
}

// One row times a group of columns, N vectors that lie side by side.
struct SmallProduct {
  SmallRow<float> left;
  long depth;
  const char* w;
  float* out;
  const float* start;  // or null for zeros; may be `out`
  const float* scale;  // of each column, for int8
};

template <int N>
static NOINLINE void run_bfloat16(const SmallProduct& q) {
  typedef Lanes<float>::U U;
  F sum[N];
#pragma GCC unroll 8
  for (int v = 0; v < N; ++v) sum[v] = q.start ? load(q.start + v * W<float>) : F{};
  const float* right = reinterpret_cast<const float*>(q.w);
  long k = 0;
  for (; k + 1 < q.depth; k += 2, right += N * W<float>) {
    const F x = broadcast(q.left.x + k), y = broadcast(q.left.x + k + 1);
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) {
      const U pair = (U)load(right + v * W<float>);
      sum[v] = fma(y, (F)(pair & 0xffff0000u), fma(x, (F)(pair << 16), sum[v]));
    }
  }
  if (k < q.depth)
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) sum[v] = fma(broadcast(q.left.x + k), (F)((U)load(right + v * W<float>) << 16), sum[v]);
#pragma GCC unroll 8
  for (int v = 0; v < N; ++v) store(q.out + v * W<float>, sum[v]);
}

// Whether this processor adds the products of pairs to a sum in one instruction (of AVX-512 VNNI): the same numbers.
static bool has_pair_sums() {
#if defined(__AVX512BW__) && UNROLLED_BYTES == 64
  return __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

template <int N, bool PAIR_SUMS>
static NOINLINE void run_int8(const SmallProduct& q) {
  typedef Lanes<float>::I I;
  I sum[N] = {};
  const char* right = q.w;
  for (long k = 0; k < q.depth; k += 2, right += N * W<float> * 2) {
    int pair;
    __builtin_memcpy(&pair, q.left.whole + k, sizeof(pair));
    const I x = pair - I{};
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) {
      const I column = widen_bytes(right + v * W<float> * 2);
#if defined(__AVX512BW__) && UNROLLED_BYTES == 64
      if constexpr (PAIR_SUMS) {
        asm("vpdpwssd %2, %1, %0" : "+v"(sum[v]) : "v"(x), "v"(column));
        continue;
      }
#endif
      sum[v] += multiply_pairs(x, column);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < N; ++v) {
    const F scale = load(q.scale + v * W<float>) * q.left.step, start = q.start ? load(q.start + v * W<float>) : F{};
    store(q.out + v * W<float>, fma(__builtin_convertvector(sum[v], F), scale, start));
  }
}

// out = start + row times group `g` of the columns. `out`, `start` and `scale` begin at the group's first column.
template <class T>
static NOINLINE void multiply_small(Form form, const SmallRow<T>& left, const T* packed, const Groups<T>& columns, long g, long depth,
                                    T* out, const T* start, const T* scale) {
  if constexpr (sizeof(T) == sizeof(float)) {
#define UNROLLED_VECTORS(f, ...)                                                 \
  {f<1 __VA_ARGS__>, f<2 __VA_ARGS__>, f<3 __VA_ARGS__>, f<4 __VA_ARGS__>,      \
   f<5 __VA_ARGS__>, f<6 __VA_ARGS__>, f<7 __VA_ARGS__>, f<8 __VA_ARGS__>}
    static constexpr void (*table[3][MAX_VECTORS])(const SmallProduct&) = {
        UNROLLED_VECTORS(run_bfloat16), UNROLLED_VECTORS(run_int8, , false), UNROLLED_VECTORS(run_int8, , true)};
#undef UNROLLED_VECTORS
    const int kind = form == Form::INT8 ? 1 + has_pair_sums() : 0;
    table[kind][columns.vectors(g) - 1]({left, depth, packed_group(packed, columns, g, depth, form), out, start, scale});
  }
}

}  // namespace unrolled::UNROLLED_ISA
