// RLtools' own pendulum. It counts its steps, because RLtools' Python module does not report a number of steps.
// RLtools compiles again only if its command changes. After a change of this file, delete the folder `rltools` in the
// folder for temporary files.

#include <rl_tools/rl/environments/pendulum/pendulum.h>
#include <rl_tools/rl/environments/pendulum/operations_generic.h>

extern "C" {
    unsigned long long pendulum_steps = 0;
}

namespace rl_tools::rl::environments {
    template <typename SPEC>
    struct CountedPendulum: Pendulum<SPEC> {};
}

namespace rl_tools {
    template <typename DEVICE, typename SPEC, typename STATE, typename ACTION, typename RNG>
    auto step(
        DEVICE& device, const rl::environments::CountedPendulum<SPEC>& env, typename SPEC::PARAMETERS& parameters,
        const rl::environments::pendulum::State<STATE>& state, const Matrix<ACTION>& action,
        rl::environments::pendulum::State<STATE>& next_state, RNG& rng
    ) {
        pendulum_steps++;
        const rl::environments::Pendulum<SPEC>& pendulum = env;
        return step(device, pendulum, parameters, state, action, next_state, rng);
    }
}

namespace RL_TOOLS_MODULE_NAME {
    namespace pendulum = rl_tools::rl::environments::pendulum;

    template <typename T, typename TI>
    using ENVIRONMENT_FACTORY = rl_tools::rl::environments::CountedPendulum<
        pendulum::Specification<T, TI, pendulum::DefaultParameters<T>>>;
}
