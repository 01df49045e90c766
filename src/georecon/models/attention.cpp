// Edge attention of the Equivariant Transformer on CPUs: forward, backward and the derivative of the
// backward, fused over one molecule at a time, so that its features stay in a core's cache and no
// array of one row an edge is ever written. The equations are `reference` of attention.py.
//
// The backward is written once for any number type. With S it is the gradient; with Dual<S>, numbers
// that carry a derivative along one direction, it is a Hessian-vector product: forces are trained.
//
// Legend: F channels, D = F / heads, E directed edges, P undirected pairs. Row-major throughout.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

using Index = std::int64_t;

// ---- numbers ------------------------------------------------------------------------------------

template <class S>
struct Dual {
    S v{}, t{};  // value and derivative
};

template <class S> Dual<S> operator+(Dual<S> a, Dual<S> b) { return {a.v + b.v, a.t + b.t}; }
template <class S> Dual<S> operator*(Dual<S> a, Dual<S> b) { return {a.v * b.v, a.t * b.v + a.v * b.t}; }
template <class S> Dual<S> operator*(S a, Dual<S> b) { return {a * b.v, a * b.t}; }
template <class S> Dual<S>& operator+=(Dual<S>& a, Dual<S> b) { return a = a + b; }

// exp without calls or branches, so that loops over it become vector instructions: 2^n times a
// polynomial on [-ln 2 / 2, ln 2 / 2], correct to 2 units in the last place. NaN stays NaN.
inline float exponential(float x) {
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
inline double exponential(double x) { return std::exp(x); }

template <class S> S sigmoid(S x) { return S(1) / (S(1) + exponential(-x)); }
template <class S> Dual<S> sigmoid(Dual<S> x) {
    const S s = sigmoid(x.v);
    return {s, s * (S(1) - s) * x.t};
}
template <class S> S one_minus(S x) { return S(1) - x; }
template <class S> Dual<S> one_minus(Dual<S> x) { return {S(1) - x.v, -x.t}; }
template <class S> S one_plus(S x) { return S(1) + x; }
template <class S> Dual<S> one_plus(Dual<S> x) { return {S(1) + x.v, x.t}; }
template <class T> T silu_slope(T x, T s) { return s * one_plus(x * one_minus(s)); }

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
// Accumulate into an output: of a dual number only the derivative is wanted.
template <class S> struct Sum {
    S* v;
    void add(Index i, S x) const { v[i] += x; }
    void add(Index i, Dual<S> x) const { v[i] += x.t; }
    Sum at(Index i) const { return {v + i}; }
};
// Room for the filters of one molecule and their gradient.
template <class S> struct Room {
    std::vector<S> data;
    S* v{};
    void resize(Index n) { data.assign(n, S(0)); v = data.data(); }
    S operator[](Index i) const { return v[i]; }
    void set(Index i, S x) const { v[i] = x; }
    void add(Index i, S x) const { v[i] += x; }
};
template <class S> struct RoomDual {
    std::vector<S> data;
    S *v{}, *t{};
    void resize(Index n) { data.assign(2 * n, S(0)); v = data.data(); t = v + n; }
    Dual<S> operator[](Index i) const { return {v[i], t[i]}; }
    void set(Index i, Dual<S> x) const { v[i] = x.v; t[i] = x.t; }
    void add(Index i, Dual<S> x) const { v[i] += x.v; t[i] += x.t; }
};

// What the caller passes; attention.py has the same fields in the same order.
struct Arguments {
    Index molecules, channels, heads, threads;
    Index kind;             // 0 forward, 1 backward, 2 derivative of the backward
    Index type;             // 0 float, 1 double
    Index vector_cutoff;    // the cutoff multiplies values instead of attention weights
    const Index *atoms, *pairs;           // first of each molecule, (B + 1,)
    const Index *rows, *source, *pair;    // first edge of each atom (N + 1,); of each edge (E,)
    const void *qkv, *vec, *filters, *unit, *cutoff;
    const void *qkv_t, *vec_t, *filters_t, *unit_t, *cutoff_t;
    const void *grad_message, *grad_vector;
    void *message, *vector;
    void *grad_qkv, *grad_vec, *grad_filters;
    void *grad_unit, *grad_cutoff;        // null where they are not wanted
};

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

// ---- one molecule -------------------------------------------------------------------------------

template <class M> struct Molecule {
    using T = typename M::Number;
    using S = typename M::Scalar;
    const Arguments& a;
    const Index F, D, first_pair, last_pair;
    const typename M::Array qkv, vec, unit, cutoff, filters;
    const S *grad_message, *grad_vector;
    typename M::Scratch act, grad_act;
    std::vector<T> score;

    Molecule(const Arguments& args, Index molecule)
        : a(args), F(args.channels), D(args.channels / args.heads),
          first_pair(args.pairs[molecule]), last_pair(args.pairs[molecule + 1]),
          qkv(M::array(a.qkv, a.qkv_t)), vec(M::array(a.vec, a.vec_t)),
          unit(M::array(a.unit, a.unit_t)), cutoff(M::array(a.cutoff, a.cutoff_t)),
          filters(M::array(a.filters, a.filters_t)),
          grad_message(static_cast<const S*>(a.grad_message)),
          grad_vector(static_cast<const S*>(a.grad_vector)), score(args.heads) {}

    // silu of the filters of each pair, once for both of its edges
    void activate() {
        const Index n = (last_pair - first_pair) * 4 * F;
        act.resize(n);
        const auto raw = filters.at(first_pair * 4 * F);
#pragma GCC ivdep
        for (Index i = 0; i < n; ++i) {
            const T x = raw[i];
            act.set(i, x * sigmoid(x));
        }
    }

    void scores(Index i, Index j, Index filter) {
        const auto q = qkv.at(i * 5 * F), k = qkv.at(j * 5 * F + F);
        for (Index h = 0; h < a.heads; ++h) {
            T sum{};
            for (Index f = h * D; f < (h + 1) * D; ++f) sum += q[f] * k[f] * act[filter + f];
            score[h] = sum;
        }
    }

    void forward(Index i, Index e) {
        const Index j = a.source[e], p = a.pair[e], filter = (p - first_pair) * 4 * F;
        const S sign = j > i ? S(1) : S(-1);
        const T c = cutoff[p];
        const auto v0 = qkv.at(j * 5 * F + 2 * F);
        const Sum<S> message{static_cast<S*>(a.message) + i * F}, vector{static_cast<S*>(a.vector) + i * 3 * F};
        scores(i, j, filter);
        for (Index h = 0; h < a.heads; ++h) {
            const T weight = score[h] * sigmoid(score[h]) * c;
#pragma GCC ivdep
            for (Index f = h * D; f < (h + 1) * D; ++f) message.add(f, weight * v0[f] * act[filter + F + f]);
        }
        const auto v1 = v0.at(F), v2 = v0.at(2 * F);
        T u[3];
        for (Index x = 0; x < 3; ++x) u[x] = a.vector_cutoff ? sign * unit[3 * p + x] * c : sign * unit[3 * p + x];
        if (!a.vec) {
#pragma GCC ivdep
            for (Index f = 0; f < F; ++f) {
                const T gate2 = v2[f] * act[filter + 3 * F + f];
                for (Index x = 0; x < 3; ++x) vector.add(x * F + f, gate2 * u[x]);
            }
            return;
        }
        const auto neighbor = vec.at(j * 3 * F);
        const bool scaled = a.vector_cutoff;
#pragma GCC ivdep
        for (Index f = 0; f < F; ++f) {
            const T gate2 = v2[f] * act[filter + 3 * F + f];
            T gate1 = v1[f] * act[filter + 2 * F + f];
            if (scaled) gate1 = gate1 * c;
            for (Index x = 0; x < 3; ++x)
                vector.add(x * F + f, gate2 * u[x] + gate1 * neighbor[x * F + f]);
        }
    }

    // Attention weights and scalar values; returns the gradient of the cutoff.
    T backward_scalar(Index i, Index j, Index filter, T c) {
        const auto q = qkv.at(i * 5 * F), k = qkv.at(j * 5 * F + F), v0 = k.at(F);
        const Sum<S> out{static_cast<S*>(a.grad_qkv)};
        const Sum<S> grad_q = out.at(i * 5 * F), grad_k = out.at(j * 5 * F + F), grad_v = grad_k.at(F);
        const S* grad = grad_message + i * F;
        T grad_c{};
        scores(i, j, filter);
        for (Index h = 0; h < a.heads; ++h) {
            const T s = score[h], gate = sigmoid(s), weight = s * gate * c;
            T sum{};
#pragma GCC ivdep
            for (Index f = h * D; f < (h + 1) * D; ++f) {
                const T back = grad[f] * v0[f], d = act[filter + F + f];
                sum += back * d;
                grad_v.add(f, grad[f] * (weight * d));
                grad_act.add(filter + F + f, weight * back);
            }
            grad_c += sum * (s * gate);
            const T slope = sum * c * silu_slope(s, gate);
#pragma GCC ivdep
            for (Index f = h * D; f < (h + 1) * D; ++f) {
                const T d = slope * act[filter + f], qf = q[f], kf = k[f];
                grad_q.add(f, kf * d);
                grad_k.add(f, qf * d);
                grad_act.add(filter + f, slope * qf * kf);
            }
        }
        return grad_c;
    }

    // Vector values: gradient of unit goes to `grad_u`; returns the gradient of the cutoff.
    template <bool geometry, bool vectors>
    T backward_vector(Index i, Index j, Index filter, T c, const T (&u)[3], T (&grad_u)[3]) {
        const auto v1 = qkv.at(j * 5 * F + 3 * F), v2 = v1.at(F), neighbor = vec.at(vectors ? j * 3 * F : 0);
        const Sum<S> grad_v1{static_cast<S*>(a.grad_qkv) + j * 5 * F + 3 * F}, grad_v2 = grad_v1.at(F);
        const Sum<S> grad_neighbor{static_cast<S*>(a.grad_vec) + (vectors ? j * 3 * F : 0)};
        const S* grad = grad_vector + i * 3 * F;
        T grad_c{}, g0{}, g1{}, g2{};
#pragma GCC ivdep
        for (Index f = 0; f < F; ++f) {
            const S gx = grad[f], gy = grad[F + f], gz = grad[2 * F + f];
            const T a2 = v2[f], d2 = act[filter + 3 * F + f];
            const T along = gx * u[0] + gy * u[1] + gz * u[2], scaled = along * c;
            grad_v2.add(f, scaled * d2);
            grad_act.add(filter + 3 * F + f, scaled * a2);
            if constexpr (geometry) {
                const T gate2 = a2 * d2;
                g0 += gx * gate2; g1 += gy * gate2; g2 += gz * gate2;
                grad_c += along * gate2;
            }
            if constexpr (vectors) {
                const T a1 = v1[f], d1 = act[filter + 2 * F + f];
                const T dot = gx * neighbor[f] + gy * neighbor[F + f] + gz * neighbor[2 * F + f], back = dot * c;
                grad_v1.add(f, back * d1);
                grad_act.add(filter + 2 * F + f, back * a1);
                const T gate1 = a1 * d1, pushed = gate1 * c;
                grad_neighbor.add(f, gx * pushed);
                grad_neighbor.add(F + f, gy * pushed);
                grad_neighbor.add(2 * F + f, gz * pushed);
                if constexpr (geometry) grad_c += dot * gate1;
            }
        }
        grad_u[0] = g0 * c; grad_u[1] = g1 * c; grad_u[2] = g2 * c;
        return grad_c;
    }

    template <bool geometry> void backward(Index i, Index e) {
        const Index j = a.source[e], p = a.pair[e], filter = (p - first_pair) * 4 * F;
        const S sign = j > i ? S(1) : S(-1);
        T one{};
        if constexpr (std::is_same_v<T, S>) one = S(1); else one.v = S(1);
        const T c = cutoff[p];
        T u[3], grad_u[3];
        for (Index x = 0; x < 3; ++x) u[x] = sign * unit[3 * p + x];
        T grad_c = backward_scalar(i, j, filter, c);
        const T scale = a.vector_cutoff ? c : one;
        const T more = a.vec ? backward_vector<geometry, true>(i, j, filter, scale, u, grad_u)
                             : backward_vector<geometry, false>(i, j, filter, scale, u, grad_u);
        if constexpr (geometry) {
            if (a.vector_cutoff) grad_c += more;
            const Sum<S> out_u{static_cast<S*>(a.grad_unit) + 3 * p}, out_c{static_cast<S*>(a.grad_cutoff) + p};
            for (Index x = 0; x < 3; ++x) out_u.add(x, sign * grad_u[x]);
            out_c.add(0, grad_c);
        }
    }

    // From the gradient of silu(filters) to that of filters.
    void finish() {
        const Index n = (last_pair - first_pair) * 4 * F, start = first_pair * 4 * F;
        const auto raw = filters.at(start);
        auto* out = static_cast<S*>(a.grad_filters) + start;
#pragma GCC ivdep
        for (Index i = 0; i < n; ++i) {
            const T x = raw[i], slope = grad_act[i] * silu_slope(x, sigmoid(x));
            if constexpr (std::is_same_v<T, S>) out[i] = slope; else out[i] = slope.t;
        }
    }
};

template <class S> void clear(void* out, Index from, Index to, Index width) {
    if (out) std::fill(static_cast<S*>(out) + from * width, static_cast<S*>(out) + to * width, S(0));
}

template <class M> void molecule(const Arguments& a, Index b) {
    using S = typename M::Scalar;
    const Index F = a.channels, first = a.atoms[b], last = a.atoms[b + 1];
    const bool forward = a.kind != 1, backward = a.kind != 0;
    if (forward) {
        clear<S>(a.message, first, last, F);
        clear<S>(a.vector, first, last, 3 * F);
    }
    if (backward) {
        clear<S>(a.grad_qkv, first, last, 5 * F);
        clear<S>(a.grad_vec, first, last, 3 * F);
        clear<S>(a.grad_unit, a.pairs[b], a.pairs[b + 1], 3);
        clear<S>(a.grad_cutoff, a.pairs[b], a.pairs[b + 1], 1);
    }
    Molecule<M> one(a, b);
    one.activate();
    if (backward) one.grad_act.resize((a.pairs[b + 1] - a.pairs[b]) * 4 * F);
    for (Index i = first; i < last; ++i)
        for (Index e = a.rows[i]; e < a.rows[i + 1]; ++e) {
            if (forward) one.forward(i, e);
            if (backward) a.grad_unit ? one.template backward<true>(i, e) : one.template backward<false>(i, e);
        }
    if (backward) one.finish();
}

template <class M> void all(const Arguments& a) {
#pragma omp parallel for schedule(dynamic) num_threads(a.threads)
    for (Index b = 0; b < a.molecules; ++b) molecule<M>(a, b);
}

}  // namespace

// Returns 0, or 1 for an unknown type.
extern "C" int edge_attention(const Arguments* a) {
    const bool derived = a->kind == 2;
    if (a->type == 0) return derived ? all<Derived<float>>(*a) : all<Plain<float>>(*a), 0;
    if (a->type == 1) return derived ? all<Derived<double>>(*a) : all<Plain<double>>(*a), 0;
    return 1;
}
