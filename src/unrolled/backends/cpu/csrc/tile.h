// Products. Everything rests on one register tile: up to 8 rows x up to 8 vectors of sums stay in registers while the
// summed index runs. One sum is one accumulator in the order of its index, whatever the tile, so results do not depend
// on how rows and columns were shared out.
#pragma once

#include "operands.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

#if defined(__x86_64__) && UNROLLED_BYTES <= 32
constexpr int REGISTERS = 16, SUMS = 12, VECTORS = 3;
#else
constexpr int REGISTERS = 32, SUMS = 24, VECTORS = 4;
#endif
// Vectors that a core has, those of them that are sums, and vectors of a tile's row where nothing else asks for a number:
// so many that the rows divide a panel's lanes.

constexpr int MAX_VECTORS = 8;  // vectors of a tile's row
constexpr int MAX_ROWS = 8;

constexpr int tile_rows(int vectors) {
  return SUMS / vectors < 1 ? 1 : SUMS / vectors > MAX_ROWS ? MAX_ROWS : SUMS / vectors;
}

template <class T>
constexpr long LINE = 64 / sizeof(T);  // numbers in a line of the cache

// Tiles of fewer rows read so much for each product that fetching more would only get in their way.
constexpr int FETCHING_ROWS = 4;

// sums(r, v) = start + sum over k of a(r, k) w(k, v). Both operands are of the same words (operands.h), which are counted as
// numbers are here.
template <class T>
struct Tile {
  const T* a;         // left operand; a(r, k) at a + r lda + k, or (transposed) at a + r + k lda
  long lda;
  long segments;      // the summed index is cut into segments of `length`,
  long segment_step;  // this far apart in the left operand (the panels of a gate buffer); the right operand runs on
  long length;
  const T* w;         // right operand, packed (k, vectors, W)
  T* out;             // sums(r, v) at out + r ldo + offset[v]
  long ldo;
  long offset[MAX_VECTORS];
  const T* start;     // (vectors, W), the same for every row; or null for zeros
  bool add;           // start from what `out` holds
  const T* next;      // what is multiplied after this `w`, where it lies beyond the second-level cache; or null
  const T* ahead;     // this tile's part of it, fetched meanwhile: a line a step of the sum; or null

  // Tile number i of those that share `w`: each fetches as many lines as its sum has steps, until all are on their way.
  void fetch(long i, int vectors) {
    ahead = next && i * LINE<T> < vectors * W<T> ? next + i * segments * length * LINE<T> : nullptr;
  }
};

// a b + c of words.
template <bool PAIRS, class V>
INLINE V multiply_words(V a, V b, V c) {
#if UNROLLED_PAIRS
  if constexpr (PAIRS) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(c) : "v"(b), "v"(a));
    return c;
  }
#endif
  return fma(a, b, c);
}

// GCC would read a vector again for every use; this keeps it in its register.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define UNROLLED_KEEP(vector) asm("" : "+v"(vector))
#else
#define UNROLLED_KEEP(vector) (void)(vector)
#endif

template <class T, int ROWS, int N, bool TRANSPOSED, bool PAIRS>
INLINE void tile_of_words(const Tile<T>& q) {
  typedef Vec<T> V;
  constexpr int w = W<T>;
  V sum[ROWS][N];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v)
      sum[r][v] = q.add ? load(q.out + r * q.ldo + q.offset[v]) : q.start ? load(q.start + v * w) : V{};
  const T *right = q.w, *ahead = ROWS >= FETCHING_ROWS ? q.ahead : nullptr;
  for (long s = 0; s < q.segments; ++s) {
    const T* left = q.a + s * q.segment_step;
    for (long k = 0; k < q.length; ++k) {
      if (ahead) {
        __builtin_prefetch(ahead, 0, 2);
        ahead += LINE<T>;
      }
      if constexpr (ROWS < N && ROWS * N + N >= REGISTERS) {
        // What the rows bring stays in registers beside the sums, and columns come one by one.
        V x[ROWS];
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r) {
          x[r] = broadcast(TRANSPOSED ? left + r : left + r * q.lda + k);
          UNROLLED_KEEP(x[r]);
        }
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) {
          V column = load(right + v * w);
          UNROLLED_KEEP(column);
#pragma GCC unroll 8
          for (int r = 0; r < ROWS; ++r) sum[r][v] = multiply_words<PAIRS>(x[r], column, sum[r][v]);
        }
        right += N * w;
        if (TRANSPOSED) left += q.lda;
        continue;
      }
      V column[N];
#pragma GCC unroll 8
      for (int v = 0; v < N; ++v) {
        column[v] = load(right + v * w);
        if (ROWS <= 4) UNROLLED_KEEP(column[v]);
      }
#pragma GCC unroll 8
      for (int r = 0; r < ROWS; ++r) {
        const V x = broadcast(TRANSPOSED ? left + r : left + r * q.lda + k);
#pragma GCC unroll 8
        for (int v = 0; v < N; ++v) sum[r][v] = multiply_words<PAIRS>(x, column[v], sum[r][v]);
      }
      right += N * w;
      if (TRANSPOSED) left += q.lda;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < N; ++v) store(q.out + r * q.ldo + q.offset[v], sum[r][v]);
}

template <class T, int ROWS, int N, bool TRANSPOSED>
static NOINLINE void run_tile(const Tile<T>& q) {
  tile_of_words<T, ROWS, N, TRANSPOSED, false>(q);
}

#if defined(__clang__) && UNROLLED_PAIRS
#define UNROLLED_WITH_PAIRS __attribute__((target("avx512bf16")))  // GCC's assembler knows the instruction without
#else
#define UNROLLED_WITH_PAIRS
#endif

template <class T, int ROWS, int N, bool TRANSPOSED>
static NOINLINE UNROLLED_WITH_PAIRS void run_pairs(const Tile<T>& q) {
  tile_of_words<T, ROWS, N, TRANSPOSED, true>(q);
}

template <class T>
using TileFunction = void (*)(const Tile<T>&);

template <class T, bool TRANSPOSED, bool PAIRS>
static TileFunction<T> function_of_words(int rows, int vectors) {
#define UNROLLED_TILE(R, N) PAIRS ? &run_pairs<T, R, N, TRANSPOSED> : &run_tile<T, R, N, TRANSPOSED>
#define UNROLLED_ROWS(R, N) tile_rows(N) < R ? nullptr : UNROLLED_TILE((tile_rows(N) < R ? 1 : R), N)
#define UNROLLED_VECTORS(N)                                                                                     \
  {UNROLLED_ROWS(1, N), UNROLLED_ROWS(2, N), UNROLLED_ROWS(3, N), UNROLLED_ROWS(4, N), UNROLLED_ROWS(5, N), \
   UNROLLED_ROWS(6, N), UNROLLED_ROWS(7, N), UNROLLED_ROWS(8, N)}
  static constexpr TileFunction<T> table[MAX_VECTORS][MAX_ROWS] = {
      UNROLLED_VECTORS(1), UNROLLED_VECTORS(2), UNROLLED_VECTORS(3), UNROLLED_VECTORS(4),
      UNROLLED_VECTORS(5), UNROLLED_VECTORS(6), UNROLLED_VECTORS(7), UNROLLED_VECTORS(8)};
#undef UNROLLED_VECTORS
#undef UNROLLED_ROWS
#undef UNROLLED_TILE
  return table[vectors - 1][rows - 1];
}

template <class T, bool TRANSPOSED>
static TileFunction<T> tile_function(int rows, int vectors, Operands form) {
  if constexpr (UNROLLED_PAIRS && sizeof(T) == sizeof(float))
    if (form == Operands::PAIRS) return function_of_words<T, TRANSPOSED, true>(rows, vectors);
  return function_of_words<T, TRANSPOSED, false>(rows, vectors);
}

// n things in `parts` parts of even size, the larger ones first: 50 in 9 are 6 6 6 6 6 5 5 5 5, not 6 ... 6 2. Divides
// once: at a single row, a tile takes no longer than some divisions.
struct Even {
  long size = 0, larger = 0;
  Even() = default;
  Even(long n, long parts) : size(parts ? n / parts : 0), larger(n - size * parts) {}
  long at(long part) const { return part * size + (part < larger ? part : larger); }
};

// Rows [first, last) cut into as few tiles as go, of even height.
struct Cut {
  long first, tiles;
  Even rows;
  Cut(long first_, long last, int height)
      : first(first_), tiles((last - first_ + height - 1) / height), rows(last - first_, tiles) {}
  long at(long tile) const { return first + rows.at(tile); }
};

}  // namespace unrolled::UNROLLED_ISA
