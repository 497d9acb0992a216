// Softmax cross-entropy of rows of logits, fused with its gradient. A row belongs to one thread and is summed in one
// order, so results do not depend on how rows were shared out.
#pragma once

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

// nats = log(sum of e^logits) - logits[target]; d = (softmax - target) scale, which may be where the logits
// are; the target is one-hot, or smoothed: (1 - smoothing) one-hot + smoothing / size.
// A NaN among the logits may be no maximum, but makes the sum one.
template <class T>
static void cross_entropy(const Loss<T>& q, const Worker& w) {
  typedef Vec<T> V;
  const Share mine(q.rows, w);
  const long whole = q.size / W<T> * W<T>, left = q.size - whole;
  const auto tail = first_lanes<T>(left);
  for (long row = mine.first; row < mine.last; ++row) {
    if (row % 64 == 0 && !w.go_on()) return;
    const T* logits = q.logits + row * q.logits_row;
    const T picked = logits[q.targets[row]];
    const T most = largest(logits, q.size);
    const V shift = broadcast(&most);
    T* d = q.d ? q.d + row * q.d_row : nullptr;
    V sum = {};
    for (long i = 0; i < whole; i += W<T>) {
      const V e = exp(load(logits + i) - shift);
      if (d) store(d + i, e);
      sum += e;
    }
    if (left) {
      const V e = exp(load(logits + whole, left) - shift);
      if (d) store(d + whole, e, left);
      sum += select(tail, e, V{});
    }
    const T total = sum_of_lanes<T>(sum);
    q.nats[row] = ::log(double(total)) + (double(most) - double(picked));
    if (!d) continue;
    const T factor = T(q.scale / double(total));
    const T spread = T(q.scale * q.smoothing / double(q.size));
    const V factors = broadcast(&factor), spreads = broadcast(&spread);
    for (long i = 0; i < whole; i += W<T>) store(d + i, load(d + i) * factors - spreads);
    if (left) store(d + whole, load(d + whole, left) * factors - spreads, left);
    d[q.targets[row]] -= T(q.scale * (1 - q.smoothing));
  }
}
