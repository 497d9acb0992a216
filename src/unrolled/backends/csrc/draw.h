// Drawing tokens one after the other from a language network, in one call.
#pragma once

// The first index whose cumulated weight exceeds u times the sum of all; the rule is that of unrolled/sample.py.
template <class T>
static long long pick(const Drawing<T>& q, double u) {
  typedef Vec<T> V;
  constexpr int n = W<T>, wide = W<double>, block = 64;
  const long size = q.decoder.outputs;
  const T* logits = q.decoder.y;
  V high = broadcast(logits);
  for (long i = 0; i + n <= size; i += n) high = larger(load(logits + i), high);
  T most = largest_lane<T>(high);
  for (long i = size / n * n; i < size; ++i) most = logits[i] > most ? logits[i] : most;
  if (q.temperature == 0) {
    long best = 0;
    while (best + 1 < size && !(logits[best] == most)) ++best;
    return best;
  }
  double* weights = q.weights;  // (V), whole blocks
  for (long i = 0; i < size; ++i) weights[i] = double(logits[i] - most) / q.temperature;
  for (long i = size; i % block; ++i) weights[i] = -INFINITY;
  double total = 0;
  for (long i = 0; i < size; i += block) {
    D sums = {};
    for (long k = i; k < i + block; k += wide) {
      const D e = exp(load(weights + k));
      store(weights + k, e);
      sums += e;
    }
    total += sum_of_lanes<double>(sums);
  }
  const double limit = u * total;
  double before = 0;
  for (long i = 0; i < size; i += block) {
    D sums = {};
    for (long k = i; k < i + block; k += wide) sums += load(weights + k);
    const double after = before + sum_of_lanes<double>(sums);
    if (after > limit) {
      long last = i;  // that has any weight: added up one by one, the block may round to the limit itself
      for (long k = i; k < i + block && k < size; ++k) {
        before += weights[k];
        if (weights[k] > 0) last = k;
        if (before > limit) return k;
      }
      return last;
    }
    before = after;
  }
  return size - 1;
}

template <class T>
static void draw(const Drawing<T>& q, const Worker& w) {
  const LinearLayer<T> decoder(q.decoder, q.decoder_work, true);
  for (long i = 0; i < q.count; ++i) {
    for (long l = 0; l < q.layers; ++l) q.step(q.layer[l], q.work[l], w);
    decoder.row(w);
    if (!w.barrier()) return;
    if (w.rank == 0) {
      *q.token = q.drawn[i] = pick(q, q.temperature == 0 ? 0 : q.u[i]);
      if (q.embedding) q.layer[0].x = q.embedding + *q.token * q.layer[0].inputs;
      for (long l = 0; l < q.layers; ++l)  // the new state is the next step's old one
        for (int f = 0; f < q.states; ++f) copy(q.layer[l].states[f], q.layer[l].states[f] + q.padded, q.padded);
    }
    if (!w.go_on() || !w.barrier()) return;
  }
}
