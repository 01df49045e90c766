// Layer norm of atoms on CPUs: forward, backward and the derivative of the backward, a row at a time.
// The equations are torch's `layer_norm`.
//
// Legend: N atoms, F channels. x (N, F), weight and bias (F,).

#include "numbers.h"

namespace {

// What the caller passes; native.py has the same fields in the same order.
struct Arguments {
    Index atoms, channels, threads;
    Index kind;     // 0 forward, 1 backward, 2 derivative of the backward
    Index type;     // 0 float, 1 double
    Index parts;    // of the atoms, one thread each
    const double* eps;
    const void *x, *weight, *bias, *x_t, *weight_t, *bias_t;    // the last two are null where nothing moves
    const void *grad_y;
    void *y, *grad_x;
    void *grad_weight, *grad_bias;    // of each part, (parts, F), its sum in the first; null where not wanted
};

// A parameter and its movement, if it moves.
template <class S> void load(const void* v, const void*, Index n, Room<S>& to) {
    for (Index f = 0; f < n; ++f) to.set(f, static_cast<const S*>(v)[f]);
}
template <class S> void load(const void* v, const void* t, Index n, RoomDual<S>& to) {
    for (Index f = 0; f < n; ++f)
        to.set(f, {static_cast<const S*>(v)[f], t ? static_cast<const S*>(t)[f] : S(0)});
}

template <class M, bool forwards, bool backwards> struct Part {
    using T = typename M::Number;
    using S = typename M::Scalar;
    const Arguments& a;
    const Index F;
    typename M::Scratch weight, bias, white;
    const Sum<S> grad_weight, grad_bias;

    Part(const Arguments& args, Index part)
        : a(args), F(args.channels), weight(F), bias(F), white(F),
          grad_weight{a.grad_weight ? static_cast<S*>(a.grad_weight) + part * F : nullptr},
          grad_bias{a.grad_bias ? static_cast<S*>(a.grad_bias) + part * F : nullptr} {
        load(a.weight, a.weight_t, F, weight);
        load(a.bias, a.bias_t, F, bias);
        for (const auto& sum : {grad_weight, grad_bias})
            if (sum.v) std::fill(sum.v, sum.v + F, S(0));
    }

    void atom(Index i) {
        const S over = S(1) / S(F);
        const auto x = M::array(a.x, a.x_t).at(i * F);
        T total{}, squares{};
        for (Index f = 0; f < F; ++f) total += x[f];
        const T mean = over * total;
        for (Index f = 0; f < F; ++f) {
            const T centred = x[f] - mean;
            squares += centred * centred;
        }
        const T scale = inverse_root(over * squares + S(*a.eps));
#pragma GCC ivdep
        for (Index f = 0; f < F; ++f) white.set(f, (x[f] - mean) * scale);
        if constexpr (forwards) {
            const Sum<S> y{static_cast<S*>(a.y) + i * F};
#pragma GCC ivdep
            for (Index f = 0; f < F; ++f) y.set(f, white[f] * weight[f] + bias[f]);
        }
        if constexpr (backwards) back(i, scale, over);
    }

    void back(Index i, T scale, S over) {
        const S* grad = static_cast<const S*>(a.grad_y) + i * F;
        const Sum<S> grad_x{static_cast<S*>(a.grad_x) + i * F};
        T level{}, tilt{};
        for (Index f = 0; f < F; ++f) {
            const T pulled = grad[f] * weight[f];
            level += pulled;
            tilt += pulled * white[f];
        }
        level = over * level;
        tilt = over * tilt;
#pragma GCC ivdep
        for (Index f = 0; f < F; ++f) grad_x.set(f, scale * (grad[f] * weight[f] - level - white[f] * tilt));
        if (a.grad_weight)
            for (Index f = 0; f < F; ++f) grad_weight.add(f, grad[f] * white[f]);
        if (a.grad_bias)
            for (Index f = 0; f < F; ++f) grad_bias.add(f, T(grad[f]));
    }
};

template <class M, bool forwards, bool backwards> void all(const Arguments& a) {
#pragma omp parallel for num_threads(a.threads)
    for (Index part = 0; part < a.parts; ++part) {
        Part<M, forwards, backwards> one(a, part);
        for (Index i = part * a.atoms / a.parts; i < (part + 1) * a.atoms / a.parts; ++i) one.atom(i);
    }
    join<typename M::Scalar>(a.grad_weight, a.parts, a.channels, a.threads);
    join<typename M::Scalar>(a.grad_bias, a.parts, a.channels, a.threads);
}

template <class S> void of_kind(const Arguments& a) {
    if (a.kind == 0) all<Plain<S>, true, false>(a);
    if (a.kind == 1) all<Plain<S>, false, true>(a);
    if (a.kind == 2) all<Derived<S>, true, true>(a);
}

}  // namespace

// Returns 0, or 1 for an unknown type.
extern "C" int layer_norm(const Arguments* a) {
    if (a->type == 0) return of_kind<float>(*a), 0;
    if (a->type == 1) return of_kind<double>(*a), 0;
    return 1;
}
