// What products multiply (the rule is in reference/operands.py): numbers as they are, or rounded to bfloat16, in words. A
// word is one number; or, where a processor adds the products of pairs of bfloat16, two that follow each other in the sum,
// the first in the lower half. Sums of an odd length end with a pair whose second number is 0.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

enum class Operands { WHOLE, ROUNDED, PAIRS };

#if defined(__AVX512BW__) && UNROLLED_BYTES == 64
#define UNROLLED_PAIRS 1
#else
#define UNROLLED_PAIRS 0
#endif

template <class T>
INLINE Operands operands_of(bool rounds) {
  if (!rounds || sizeof(T) != sizeof(float)) return Operands::WHOLE;
  return UNROLLED_PAIRS && multiplies_pairs ? Operands::PAIRS : Operands::ROUNDED;
}

INLINE long per_word(Operands form) { return form == Operands::PAIRS ? 2 : 1; }
INLINE long words(Operands form, long numbers) { return form == Operands::PAIRS ? (numbers + 1) / 2 : numbers; }

// To the nearest bfloat16, to even between two; a NaN stays one.
INLINE F rounded(F v) {
  typedef Lanes<float>::U U;
  const U bits = (U)v, near = bits + (((bits >> 16) & 1) + 0x7fff);
  return (F)((v != v ? bits | 0x400000 : near) & 0xffff0000u);
}
INLINE D rounded(D v) { return v; }  // never asked for

#if UNROLLED_PAIRS
// Two vectors rounded, the first in the lower half.
INLINE __m512i rounded_both(F first, F second) {
#if defined(__clang__)  // which knows the instruction only in functions that ask for it
  typedef short H __attribute__((vector_size(64)));
  const H upper = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                   33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
  return _mm512_permutex2var_epi16((__m512i)rounded(first), (__m512i)upper, (__m512i)rounded(second));
#else
  __m512i both;
  asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(second), "v"(first));
  return both;
#endif
}
#endif

// The words of a vector and of the one that follows it in the sum, lane by lane.
template <class T>
INLINE Vec<T> above(Operands form, Vec<T> first, Vec<T> second) {
  if constexpr (sizeof(T) == sizeof(float)) {
#if UNROLLED_PAIRS
    typedef short H __attribute__((vector_size(64)));
    const H in_turn = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    if (form == Operands::PAIRS) return (F)_mm512_permutexvar_epi16((__m512i)in_turn, rounded_both(first, second));
#endif
    if (form == Operands::ROUNDED) return rounded(first);
  }
  return first;
}

// The words [k, k + W) of n numbers side by side, zeros behind them.
template <class T>
INLINE Vec<T> beside(Operands form, const T* from, long n, long k) {
  const long at = k * per_word(form), left = n - at;
#if UNROLLED_PAIRS
  if constexpr (sizeof(T) == sizeof(float))
    if (form == Operands::PAIRS) {
      constexpr long w = W<float>;
      return (F)rounded_both(load(from + at, left), left > w ? load(from + at + w, left - w) : F{});
    }
#endif
  const Vec<T> v = load(from + at, left);
  return form == Operands::ROUNDED ? rounded(v) : v;
}

// The words of n numbers side by side.
template <class T>
static NOINLINE void write_words(Operands form, T* to, const T* from, long n) {
  const long count = words(form, n);
  for (long k = 0; k < count; k += W<T>) store(to + k, beside(form, from, n, k), count - k);
}

// The words of rows [0, depth), each `width` numbers and `step` apart, that are summed over: a row of words, `to_step` on,
// for each two rows, or each.
template <class T>
static NOINLINE void write_words_above(Operands form, T* to, long to_step, const T* from, long step, long depth, long width) {
  const long per = per_word(form);
  for (long k = 0; k < depth; k += per, to += to_step)
    for (long i = 0; i < width; i += W<T>) {
      const T* row = from + k * step + i;
      const Vec<T> second = per == 2 && k + 1 < depth ? load(row + step, width - i) : Vec<T>{};
      store(to + i, above<T>(form, load(row, width - i), second));
    }
}

}  // namespace unrolled::UNROLLED_ISA
