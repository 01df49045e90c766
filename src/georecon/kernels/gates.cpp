// Heads and decoders on CPUs, what stands between their matrix products: forward, backward and the derivative
// of the backward in one pass. The equations are those of gates.py.
//
// Legend: N atoms, B molecules, F channels.

#include "numbers.h"

namespace {

// What the caller passes; native.py has the same fields in the same order. kind: 0 forward, 1 backward,
// 2 derivative of the backward; type: 0 float, 1 double.

// Scalars x (N, F) and the lengths of vectors vec (N, 3, F) side by side: y (N, 2F).
struct Lengths {
    Index atoms, channels, threads, kind, type;
    const double* smallest;    // square of a length, below which it is a constant
    const void *x, *vec, *x_t, *vec_t, *grad_y;
    void *y, *grad_x, *grad_vec;

    template <class M, bool forwards, bool backwards> void row(Index i) const {
        using T = typename M::Number;
        using S = typename M::Scalar;
        const Index F = channels;
        const S least = S(*smallest);
        const auto scalar = M::array(x, x_t).at(i * F), v = M::array(vec, vec_t).at(i * 3 * F);
        const Sum<S> out{static_cast<S*>(y) + i * 2 * F};
        const Sum<S> to_x{static_cast<S*>(grad_x) + i * F}, to_v{static_cast<S*>(grad_vec) + i * 3 * F};
        const S* grad = static_cast<const S*>(grad_y) + i * 2 * F;
#pragma GCC ivdep
        for (Index f = 0; f < F; ++f) {
            const T a = v[f], b = v[F + f], c = v[2 * F + f], square = a * a + b * b + c * c;
            const T over = inverse_root(at_least(square, least));
            if constexpr (forwards) {
                out.set(f, scalar[f]);
                out.set(F + f, at_least(square, least) * over);
            }
            if constexpr (backwards) {
                const T scale = (value(square) < least ? S(0) : grad[F + f]) * over;
                to_x.set(f, T(grad[f]));
                to_v.set(f, scale * a);
                to_v.set(F + f, scale * b);
                to_v.set(2 * F + f, scale * c);
            }
        }
    }
    Index rows() const { return atoms; }
};

// u (N, 2F): scalars, and gates of vectors vec (N, 3, F). y (N, F) are the SiLU of the scalars, w (N, 3, F) the
// vectors times their gates.
struct Gates {
    Index atoms, channels, threads, kind, type;
    const void *u, *vec, *u_t, *vec_t, *grad_y, *grad_w;
    void *y, *w, *grad_u, *grad_vec;

    template <class M, bool forwards, bool backwards> void row(Index i) const {
        using T = typename M::Number;
        using S = typename M::Scalar;
        const Index F = channels;
        const auto scalar = M::array(u, u_t).at(i * 2 * F), gate = scalar.at(F);
        const auto v = M::array(vec, vec_t).at(i * 3 * F);
        const Sum<S> to_y{static_cast<S*>(y) + i * F}, to_w{static_cast<S*>(w) + i * 3 * F};
        const Sum<S> to_u{static_cast<S*>(grad_u) + i * 2 * F}, to_v{static_cast<S*>(grad_vec) + i * 3 * F};
        const S *gy = static_cast<const S*>(grad_y) + i * F, *gw = static_cast<const S*>(grad_w) + i * 3 * F;
#pragma GCC ivdep
        for (Index f = 0; f < F; ++f) {
            const T x = scalar[f], g = gate[f], part = sigmoid(x);
            if constexpr (forwards) {
                to_y.set(f, part * x);
                for (Index c = 0; c < 3; ++c) to_w.set(c * F + f, g * v[c * F + f]);
            }
            if constexpr (backwards) {
                T along{};
                for (Index c = 0; c < 3; ++c) {
                    along += gw[c * F + f] * v[c * F + f];
                    to_v.set(c * F + f, gw[c * F + f] * g);
                }
                to_u.set(f, gy[f] * silu_slope(x, part));
                to_u.set(F + f, along);
            }
        }
    }
    Index rows() const { return atoms; }
};

// m (B, 3F), of each molecule a, b, c: y = (1 + a) x + b, w = (1 + c) vec.
struct Modulation {
    Index molecules, channels, threads, kind, type;
    const Index* atoms;    // first of each molecule, (B + 1,)
    const void *m, *x, *vec, *m_t, *x_t, *vec_t, *grad_y, *grad_w;
    void *y, *w, *grad_m, *grad_x, *grad_vec;

    template <class M, bool forwards, bool backwards> void row(Index b) const {
        using T = typename M::Number;
        using S = typename M::Scalar;
        const Index F = channels;
        const auto by = M::array(m, m_t).at(b * 3 * F);
        const Sum<S> to_m{static_cast<S*>(grad_m) + b * 3 * F};
        if constexpr (backwards) std::fill(to_m.v, to_m.v + 3 * F, S(0));
        for (Index i = atoms[b]; i < atoms[b + 1]; ++i) {
            const auto scalar = M::array(x, x_t).at(i * F), v = M::array(vec, vec_t).at(i * 3 * F);
            const Sum<S> to_y{static_cast<S*>(y) + i * F}, to_w{static_cast<S*>(w) + i * 3 * F};
            const Sum<S> to_x{static_cast<S*>(grad_x) + i * F}, to_v{static_cast<S*>(grad_vec) + i * 3 * F};
            const S *gy = static_cast<const S*>(grad_y) + i * F, *gw = static_cast<const S*>(grad_w) + i * 3 * F;
#pragma GCC ivdep
            for (Index f = 0; f < F; ++f) {
                const T scale = one_plus(by[f]), stretch = one_plus(by[2 * F + f]);
                if constexpr (forwards) {
                    to_y.set(f, scale * scalar[f] + by[F + f]);
                    for (Index c = 0; c < 3; ++c) to_w.set(c * F + f, stretch * v[c * F + f]);
                }
                if constexpr (backwards) {
                    T along{};
                    for (Index c = 0; c < 3; ++c) {
                        along += gw[c * F + f] * v[c * F + f];
                        to_v.set(c * F + f, gw[c * F + f] * stretch);
                    }
                    to_x.set(f, gy[f] * scale);
                    to_m.add(f, gy[f] * scalar[f]);
                    to_m.add(F + f, T(gy[f]));
                    to_m.add(2 * F + f, along);
                }
            }
        }
    }
    Index rows() const { return molecules; }
};

template <class M, bool forwards, bool backwards, class A> void all(const A& a) {
#pragma omp parallel for num_threads(a.threads)
    for (Index i = 0; i < a.rows(); ++i) a.template row<M, forwards, backwards>(i);
}

template <class S, class A> void of_kind(const A& a) {
    if (a.kind == 0) all<Plain<S>, true, false>(a);
    if (a.kind == 1) all<Plain<S>, false, true>(a);
    if (a.kind == 2) all<Derived<S>, true, true>(a);
}

template <class A> int of_type(const A& a) {
    if (a.type == 0) return of_kind<float>(a), 0;
    if (a.type == 1) return of_kind<double>(a), 0;
    return 1;
}

}  // namespace

// Each returns 0, or 1 for an unknown type.
extern "C" int vector_lengths(const Lengths* a) { return of_type(*a); }
extern "C" int gated_vectors(const Gates* a) { return of_type(*a); }
extern "C" int feature_modulation(const Modulation* a) { return of_type(*a); }
