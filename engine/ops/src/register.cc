// What the library exports: the operators, for ONNX Runtime, and which kernels they use, for the engine.
#include <cstring>

#include "agreement.h"
#include "convolve_bytes.h"
#include "gated_rows.h"
#include "lookup_bytes.h"
#include "lookup_steps.h"
#include "multiply_bytes.h"
#include "operator.h"
#include "processor.h"
#include "quantize_rows.h"
#include "residual_unit.h"

namespace sao {

namespace {

constexpr const char* DOMAIN_NAME = "sao_onnx";

// Without instructions for dot products, ONNX Runtime's own convolutions are as fast, and on Arm its products. With AVX2, products
// must not overflow, for which ONNX Runtime copies all weights when it opens a graph. Where Arm has instructions for matrix products,
// ONNX Runtime's matmuls use them and take half as many instructions. The portable ones are there for tests.
bool convolutions_pay() { return kernels() != Kernels::NEON && kernels() != Kernels::AVX2; }
bool products_pay() { return kernels() != Kernels::NEON && !(kernels() == Kernels::NEON_DOT && has_matrix_products()); }

Status* register_operators(SessionOptions* options) {
  static const CustomOp operators[] = {describe<LookUpBytes>(), describe<LookUpSteps>(), describe<QuantizeRows>(),
                                       describe<QuantizeGatedRows>()};
  static const CustomOp convolutions[] = {describe<ConvolveBytes>(), describe<ResidualUnit>()};
  static const CustomOp product = describe<MultiplyBytes>();
  // ONNX Runtime keeps a pointer to the domain for as long as there are sessions. There is one for all of them.
  static Domain* domain = nullptr;
  if (domain == nullptr) {
    Domain* made = nullptr;
    if (Status* status = ort.create_domain(DOMAIN_NAME, &made)) return status;
    for (const CustomOp& op : operators)
      if (Status* status = ort.add_operator(made, &op)) return status;
    if (convolutions_pay())
      for (const CustomOp& op : convolutions)
        if (Status* status = ort.add_operator(made, &op)) return status;
    if (products_pay())
      if (Status* status = ort.add_operator(made, &product)) return status;
    domain = made;
  }
  return ort.add_domain(options, domain);
}

}  // namespace

}  // namespace sao

SAO_EXPORT sao::Status* SAO_CALL RegisterCustomOps(sao::SessionOptions* options, const sao::ApiBase* base) {
  const void* const* api = base->get_api(sao::API_VERSION);
  if (api == nullptr) return nullptr;  // An older ONNX Runtime. It says itself that it does not know the operators.
  sao::ort.read(api);
  return sao::register_operators(options);
}

// Compares the kernels with their portable forms, and returns the name of those that are used from now on: the fastest that agree.
SAO_EXPORT const char* sao_onnx_ops_check(void) {
  sao::use_kernels_that_agree(sao::fastest_kernels());
  return sao::kernels_name(sao::kernels());
}

// The same with kernels that are no faster than those of this name, nor than those in use.
SAO_EXPORT const char* sao_onnx_ops_use(const char* name) {
  for (int level = static_cast<int>(sao::kernels()); level >= 0; --level) {
    const auto wanted = static_cast<sao::Kernels>(level);
    if (std::strcmp(name, sao::kernels_name(wanted)) == 0) sao::use_kernels_that_agree(wanted);
  }
  return sao::kernels_name(sao::kernels());
}

// The version of the operators: what ONNX graphs call the version of the domain.
SAO_EXPORT int sao_onnx_ops_version(void) { return 1; }
