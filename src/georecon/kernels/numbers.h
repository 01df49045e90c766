// Numbers and arrays of the CPU kernels.
//
// A backward is written once for any number type. With S it is the gradient; with Dual<S>, numbers
// that carry a derivative along one direction, it is a Hessian-vector product: forces are trained.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <cmath>
#include <vector>

namespace {

using Index = std::int64_t;

// A call inside a loop keeps it from becoming vector instructions.
#define INLINE __attribute__((always_inline)) inline

// ---- numbers ------------------------------------------------------------------------------------

template <class S>
struct Dual {
    S v{}, t{};  // value and derivative
    Dual() = default;
    Dual(S value, S derivative = S(0)) : v(value), t(derivative) {}
};

template <class S> Dual<S> operator+(Dual<S> a, Dual<S> b) { return {a.v + b.v, a.t + b.t}; }
template <class S> Dual<S> operator+(Dual<S> a, S b) { return {a.v + b, a.t}; }
template <class S> Dual<S> operator-(Dual<S> a, Dual<S> b) { return {a.v - b.v, a.t - b.t}; }
template <class S> Dual<S> operator*(Dual<S> a, Dual<S> b) { return {a.v * b.v, a.t * b.v + a.v * b.t}; }
template <class S> Dual<S> operator*(S a, Dual<S> b) { return {a * b.v, a * b.t}; }
template <class S> Dual<S> operator-(Dual<S> a, S b) { return {a.v - b, a.t}; }
template <class S> Dual<S>& operator+=(Dual<S>& a, Dual<S> b) { return a = a + b; }

template <class S> S value(S x) { return x; }
template <class S> S value(Dual<S> x) { return x.v; }

template <class S> S inverse_root(S x) { return S(1) / std::sqrt(x); }
template <class S> Dual<S> inverse_root(Dual<S> x) {
    const S v = inverse_root(x.v);
    return {v, S(-0.5) * v * v * v * x.t};
}

// A number below the smallest counts as that one, a constant.
template <class S> S at_least(S x, S smallest) { return x < smallest ? smallest : x; }
template <class S> Dual<S> at_least(Dual<S> x, S smallest) {
    return {at_least(x.v, smallest), x.v < smallest ? S(0) : x.t};
}

// exp without calls or branches, so that loops over it become vector instructions: 2^n times a
// polynomial on [-ln 2 / 2, ln 2 / 2], correct to 2 units in the last place. NaN stays NaN.
INLINE float exponential(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    const float n = __builtin_rintf(x * 1.44269504f);
    const float r = __builtin_fmaf(n, 2.12194440e-4f, __builtin_fmaf(n, -0.693359375f, x));
    float y = __builtin_fmaf(1.9875691500e-4f, r, 1.3981999507e-3f);
    y = __builtin_fmaf(y, r, 8.3334519073e-3f);
    y = __builtin_fmaf(y, r, 4.1665795894e-2f);
    y = __builtin_fmaf(y, r, 1.6666665459e-1f);
    y = __builtin_fmaf(y, r, 5.0000001201e-1f);
    y = __builtin_fmaf(y, r * r, r) + 1.0f;
    const std::int32_t bits = (static_cast<std::int32_t>(n) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return y * scale;
}
INLINE double exponential(double x) {
    x = x > 708.0 ? 708.0 : x;
    x = x < -708.0 ? -708.0 : x;
    const double n = __builtin_rint(x * 1.4426950408889634);
    const double r = __builtin_fma(n, -1.9082149292705877e-10, __builtin_fma(n, -0.693147180369123816490, x));
    double y = 1.0 / 6227020800;
    y = __builtin_fma(y, r, 1.0 / 479001600);
    y = __builtin_fma(y, r, 1.0 / 39916800);
    y = __builtin_fma(y, r, 1.0 / 3628800);
    y = __builtin_fma(y, r, 1.0 / 362880);
    y = __builtin_fma(y, r, 1.0 / 40320);
    y = __builtin_fma(y, r, 1.0 / 5040);
    y = __builtin_fma(y, r, 1.0 / 720);
    y = __builtin_fma(y, r, 1.0 / 120);
    y = __builtin_fma(y, r, 1.0 / 24);
    y = __builtin_fma(y, r, 1.0 / 6);
    y = __builtin_fma(y, r, 0.5);
    y = __builtin_fma(y, r * r, r) + 1.0;
    const double shifted = n + 6755399441055744.0;    // 3 * 2^51: n is in the lowest bits
    std::int64_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = static_cast<std::int64_t>(static_cast<std::uint64_t>(bits + 1023) << 52);
    double scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return y * scale;
}

// A shorter one for float64: to 1e-12. Its integer part is taken from the lowest bits of a sum and added
// to the exponent.
INLINE double short_exponential(double x) {
    x = x > 708.0 ? 708.0 : x;
    x = x < -708.0 ? -708.0 : x;
    const double shift = 6755399441055744.0;    // 3 * 2^51
    const double shifted = __builtin_fma(x, 1.4426950408889634, shift), n = shifted - shift;
    const double r = __builtin_fma(n, -0.6931471805599453, x);
    double y = 2.4708267368127027e-5;    // minimax on [-ln 2 / 2, ln 2 / 2]
    y = __builtin_fma(y, r, 1.99089527687042e-4);
    y = __builtin_fma(y, r, 1.3889197260776509e-3);
    y = __builtin_fma(y, r, 8.333281786934639e-3);
    y = __builtin_fma(y, r, 4.1666664403661555e-2);
    y = __builtin_fma(y, r, 1.6666666784514905e-1);
    y = __builtin_fma(y, r, 5.000000000427166e-1);
    y = __builtin_fma(y, r * r, r) + 1.0;
    std::uint64_t bits, power;
    std::memcpy(&bits, &y, sizeof bits);
    std::memcpy(&power, &shifted, sizeof power);
    bits += power << 52;
    std::memcpy(&y, &bits, sizeof y);
    return y;
}

template <class S> INLINE S sigmoid(S x) { return S(1) / (S(1) + exponential(-x)); }
template <class S> INLINE Dual<S> sigmoid(Dual<S> x) {
    const S s = sigmoid(x.v);
    return {s, s * (S(1) - s) * x.t};
}
template <class S> S one_minus(S x) { return S(1) - x; }
template <class S> Dual<S> one_minus(Dual<S> x) { return {S(1) - x.v, -x.t}; }
template <class S> S one_plus(S x) { return S(1) + x; }
template <class S> Dual<S> one_plus(Dual<S> x) { return {S(1) + x.v, x.t}; }
template <class T> INLINE T silu_slope(T x, T s) { return s * one_plus(x * one_minus(s)); }

// ---- arrays of either number type ---------------------------------------------------------------

// Read: one array, or two, values and derivatives.
template <class S> struct Read {
    const S* v;
    S operator[](Index i) const { return v[i]; }
    Read at(Index i) const { return {v + i}; }
};
template <class S> struct ReadDual {
    const S *v, *t;
    Dual<S> operator[](Index i) const { return {v[i], t[i]}; }
    ReadDual at(Index i) const { return {v + i, t + i}; }
};
// An output: of a dual number only the derivative is wanted.
template <class S> struct Sum {
    S* v;
    void add(Index i, S x) const { v[i] += x; }
    void add(Index i, Dual<S> x) const { v[i] += x.t; }
    void set(Index i, S x) const { v[i] = x; }
    void set(Index i, Dual<S> x) const { v[i] = x.t; }
    Sum at(Index i) const { return {v + i}; }
};
// Room for the filters of one pair, and for their gradient.
template <class S> struct Room {
    std::vector<S> data;
    explicit Room(Index n) : data(n) {}
    S operator[](Index i) const { return data[i]; }
    void clear() { std::fill(data.begin(), data.end(), S(0)); }
    void set(Index i, S x) { data[i] = x; }
    void add(Index i, S x) { data[i] += x; }
};
template <class S> struct RoomDual {
    Room<S> v, t;
    explicit RoomDual(Index n) : v(n), t(n) {}
    Dual<S> operator[](Index i) const { return {v[i], t[i]}; }
    void clear() { v.clear(); t.clear(); }
    void set(Index i, Dual<S> x) { v.set(i, x.v); t.set(i, x.t); }
    void add(Index i, Dual<S> x) { v.add(i, x.v); t.add(i, x.t); }
};

// Parts of a sum, (parts, n), to the first of them, in order.
template <class S> void join(void* sums, Index parts, Index n, Index threads) {
    constexpr Index BLOCK = 4096;
    if (!sums) return;
    S* first = static_cast<S*>(sums);
#pragma omp parallel for num_threads(threads) if (n > BLOCK)
    for (Index from = 0; from < n; from += BLOCK) {
        const Index last = std::min(n, from + BLOCK);
        for (Index part = 1; part < parts; ++part) {
            const S* more = first + part * n;
#pragma GCC ivdep
            for (Index f = from; f < last; ++f) first[f] += more[f];
        }
    }
}

template <class S> struct Plain {
    using Number = S; using Scalar = S; using Array = Read<S>; using Scratch = Room<S>;
    static Array array(const void* v, const void*) { return {static_cast<const S*>(v)}; }
};
template <class S> struct Derived {
    using Number = Dual<S>; using Scalar = S; using Array = ReadDual<S>; using Scratch = RoomDual<S>;
    static Array array(const void* v, const void* t) {
        return {static_cast<const S*>(v), static_cast<const S*>(t)};
    }
};

}  // namespace
