// Weights of fewer bits, and products of rows with them, one by one. Numbers of a column lie side by side: of bfloat16 those of k and
// k + 1, of int8 those of k to k + 3. bfloat16 is widened to float, and summed in the order of tile.h: the same bits. int8 is
// multiplied with the row as 16-bit whole numbers, whose sums are exact, whatever the tile and the instruction set; then times
// the scales of column and row. Its bytes are kept as 128 more, without a sign: of each sum 128 times the row's is taken away.
#pragma once

#include <limits.h>

#include "kernels.h"
#include "panels.h"
#include "pieces.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

constexpr int LARGEST_INT8 = 127, OFFSET_INT8 = 128;

INLINE long quads(long depth) { return (depth + 3) / 4 * 4; }

// Numbers of type T that a packed weight takes.
template <class T>
static long packed_size(const Groups<T>& columns, long depth, Form form) {
  return form == Form::WHOLE ? columns.size(depth) : columns.size(quads(depth)) / (form == Form::INT8 ? 4 : 2);
}

// Where a group of columns begins.
template <class T>
INLINE const char* packed_group(const T* packed, const Groups<T>& columns, long group, long depth, Form form) {
  return reinterpret_cast<const char*>(packed) + columns.packed(group, quads(depth)) * (form == Form::INT8 ? 1 : 2);
}

// One row of a panel: its numbers of a lane, `step` bytes from one lane to the next.
static void pack_small_row(char* to, long step, const float* row, long depth, Form form, float scale) {
  const int count = form == Form::INT8 ? 4 : 2;
  for (long k = 0; k < depth; k += count, to += step) {
    unsigned lane = form == Form::INT8 ? 0x80808080u : 0;
    for (int i = 0; i < count && k + i < depth; ++i) {
      unsigned bits;
      __builtin_memcpy(&bits, row + k + i, sizeof(bits));
      if (form == Form::INT8)
        lane ^= (unsigned(scale > 0 ? int(row[k + i] / scale) : 0) & 0xff) << 8 * i;
      else
        lane |= bits >> 16 << 16 * i;
    }
    __builtin_memcpy(to, &lane, sizeof(lane));
  }
}

// As pack_transposed, to the form of the weight: (group, pair or four of k, panel, gate, W, 2 or 4).
template <class T>
static void pack_weight(T* to, const T* w, long ld, long hidden, long depth, const Groups<T>& g, long gfirst, long glast,
                        const Rounding<T>& rounding) {
  const Form form = rounding.form;
  if (form == Form::WHOLE) return pack_transposed(to, w, ld, hidden, depth, g, gfirst, glast);
  if constexpr (sizeof(T) == sizeof(float)) {
    for (long group = gfirst; group < glast; ++group) {
      const long vectors = g.vectors(group);
      char* base = const_cast<char*>(packed_group(to, g, group, depth, form));
      __builtin_memset(base, 0, quads(depth) * vectors * W<T> * (form == Form::INT8 ? 1 : 2));
      for (long v = 0; v < vectors; ++v)
        for (long i = 0; i < W<T>; ++i) {
          const long unit = (g.first(group) + v / g.per) * W<T> + i, row = v % g.per * hidden + unit;
          if (unit < hidden)
            pack_small_row(base + (v * W<T> + i) * 4, vectors * W<T> * 4, w + row * ld, depth, form,
                           rounding.scale ? rounding.scale[row] : 0);
        }
    }
  }
}

// The left operand: a row; for int8 also the whole numbers nearest to x / step, two ints for every four of them, and their
// sum. Where there are sums of quads, those ints are the lower and the upper bytes, both with a sign; else numbers 0 and 2,
// 1 and 3.
template <class T>
struct SmallRow {
  const T* x;
  const int* whole;
  T step;
  unsigned sum;
};

// Whether this processor adds the products of four bytes to a sum in one instruction (of AVX-512 VNNI).
INLINE bool has_quad_sums() {
#if defined(__AVX512BW__) && UNROLLED_BYTES == 64
  return __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

// Numbers of 16 bits that a row needs.
template <class T>
static long whole_row(long depth) {
  return (depth + W<T> - 1) / W<T> * W<T>;
}

typedef unsigned short Shorts __attribute__((vector_size(UNROLLED_BYTES / 2)));
typedef unsigned long Fours __attribute__((vector_size(UNROLLED_BYTES / 2)));

INLINE Fours apart(Shorts whole, bool bytes) {
  Fours v = (Fours)(bytes ? (whole + 128) ^ 128 : whole);  // 256 times the upper byte and the lower one, which has a sign now
  if (bytes) v = (v & 0xff0000ffff0000ff) | (v >> 8 & 0x0000ff000000ff00) | (v << 8 & 0x00ff000000ff0000);
  return (v & 0xffff00000000ffff) | (v >> 16 & 0xffff0000) | (v << 16 & 0xffff00000000);
}

// The step is such that no sum of products with int8 exceeds an int; it is NaN where the row is not finite.
static NOINLINE SmallRow<float> round_row(short* to, const float* x, long depth) {
  typedef Lanes<float>::U U;
  F high = {}, odd = {};
  for (long k = 0; k < depth; k += W<float>) {
    const F v = load(x + k, depth - k);
    high = larger(v, larger(-v, high)), odd += v - v;
  }
  constexpr long largest = SHRT_MAX - 128;  // whose upper byte is one still
  const long fit = INT_MAX / LARGEST_INT8 / depth, most = fit < largest ? (fit < 1 ? 1 : fit) : largest;
  const float step = largest_lane<float>(high) / float(most), inverse = step >= 1.17549435e-38f ? 1 / step : 0;
  const F magic = splat<F>(12582912);  // 1.5 times 2^23: the sum's last bits are the nearest whole number
  const bool bytes = has_quad_sums();
  U sums = {};
  for (long k = 0; k < depth; k += W<float>) {
    const U whole = (U)(load(x + k, depth - k) * inverse + magic) - (U)magic;
    const Fours fours = apart(__builtin_convertvector(whole, Shorts), bytes);
    __builtin_memcpy(to + k, &fours, sizeof(fours));
    sums += whole;
  }
  unsigned sum = 0;
  for (int i = 0; i < W<float>; ++i) sum += sums[i];
  return {x, reinterpret_cast<const int*>(to), step + sum_of_lanes<float>(odd), sum};
}

template <class T>
static SmallRow<T> small_row(Form form, const T* x, long depth, short* scratch) {
  if constexpr (sizeof(T) == sizeof(float))
    if (form == Form::INT8) return round_row(scratch, x, depth);
  return {x, nullptr, 0, 0};
}

// Some rows, each as it is multiplied.
template <class T>
class SmallRows {
  SmallRow<T>* row_ = nullptr;
  short* whole_ = nullptr;
  long length_ = 0;

 public:
  SmallRows() = default;
  // Room for `count` rows of at most so many numbers.
  SmallRows(Pieces& p, long count, long depth)
      : row_(p.template take<SmallRow<T>>(count)), whole_(p.template take<short>(count * whole_row<T>(depth))), length_(whole_row<T>(depth)) {}
  const SmallRow<T>& operator[](long i) const { return row_[i]; }
  void set(long i, Form form, const T* x, long depth) const { row_[i] = small_row(form, x, depth, whole_ + i * length_); }
};

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

template <int N, bool QUAD_SUMS>
static NOINLINE void run_int8(const SmallProduct& q) {
  typedef Lanes<float>::I I;
  typedef Lanes<float>::U U;
  U sum[N] = {}, upper[N] = {};
  const char* right = q.w;
  for (long k = 0; k < q.depth; k += 4, right += N * W<float> * 4) {
    const U a = (unsigned)q.left.whole[k / 2] - U{}, b = (unsigned)q.left.whole[k / 2 + 1] - U{};
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) {
      const U column = (U)load(reinterpret_cast<const float*>(right) + v * W<float>);
#if defined(__AVX512BW__) && UNROLLED_BYTES == 64
      if constexpr (QUAD_SUMS) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sum[v]) : "v"(column), "v"(a));
        asm("vpdpbusd %2, %1, %0" : "+v"(upper[v]) : "v"(column), "v"(b));
        continue;
      }
#endif
      sum[v] += (U)multiply_pairs((I)(column & 0x00ff00ffu), (I)a) + (U)multiply_pairs((I)(column >> 8 & 0x00ff00ffu), (I)b);
    }
  }
  const unsigned more = q.left.sum * OFFSET_INT8;
#pragma GCC unroll 8
  for (int v = 0; v < N; ++v) {
    const I whole = (I)(sum[v] + (upper[v] << 8) - more);
    const F scale = load(q.scale + v * W<float>) * q.left.step, start = q.start ? load(q.start + v * W<float>) : F{};
    store(q.out + v * W<float>, fma(__builtin_convertvector(whole, F), scale, start));
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
    const int kind = form == Form::INT8 ? 1 + has_quad_sums() : 0;
    table[kind][columns.vectors(g) - 1]({left, depth, packed_group(packed, columns, g, depth, form), out, start, scale});
  }
}

}  // namespace unrolled::UNROLLED_ISA
