"""Operators of onnxruntime's own domains that have no derivative, or whose rule nobody has written; each with the reason."""

from collections.abc import Iterable

from gradserve_server.graph.autodiff.rules import MICROSOFT, proven_zero, unsupported


def _names(text: str) -> dict[str, Iterable[int]]:
    """Operators, all in their only version."""
    return dict.fromkeys(text.split(), (1,))


proven_zero(
    "hash values, tokens and indices do not change with a float, or only in jumps",
    _names("""
        BifurcationDetector DynamicTimeWarping GreedySearch IsAllFinite IsFinite MurmurHash3 NGramHashMapping
        Tokenizer VarlenNGramHashMapping
    """),
    domain=MICROSOFT,
)
unsupported(
    "it computes with integers that stand for floats, so its value moves in steps",
    _names("""
        DequantizeBFP DequantizeLinear DequantizeWithOrder DynamicQuantizeLSTM DynamicQuantizeMatMul FakeQuant
        GemmFloat8 MatMulInteger16 MatMulIntegerToFloat MulInteger NhwcMaxPool QAttention QEmbedLayerNormalization
        QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu
        QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QMoE QOrderedAttention QOrderedGelu
        QOrderedLayerNormalization QOrderedLongformerAttention QOrderedMatMul QuantizeBFP QuantizeLinear
        QuantizeWithOrder ReduceSumInteger
    """),
    domain=MICROSOFT,
)
unsupported(
    "its weights are packed in a format that no standard operator reads",
    _names("""
        GatherBlockQuantized GatherPacked MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight MatMulBnb4
        MatMulFpQ4 MatMulNBitsMlp MatMulNBitsQkv MatMulNBitsQLoRA MatMulPacked RouterGateUpProj SparseToDenseMatMul
    """),
    domain=MICROSOFT,
)
unsupported(
    "it generates text step by step, with a state that one run of the model does not hold",
    _names("""
        BeamSearch CausalConvWithState ConvStateReplay DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention
        GatedDeltaNet GatedDeltaNetStateReplay GroupQueryAttention LinearAttention Mamba2Verify NGramRepeatBlock
        PagedAttention Sampling SparseAttention SparsePagedAttention SpeculativePrefixCommit
        VarlenCausalConvWithState WhisperBeamSearch
    """),
    domain=MICROSOFT,
)
unsupported(
    "nobody has written its rule",
    _names("""
        AttnLSTM BranchwiseRMSNorm CropAndResize EngramGate GatedAdd GatedRMSNorm HyperConnectionPostMix
        HyperConnectionPreMix LinearAttentionGate MaxpoolWithMask MoE MoEGroupRouter MRotaryEmbedding ScaledSiLU
        WordConvEmbedding
    """),
    domain=MICROSOFT,
)
unsupported("which of several equal elements its output comes from is not defined", _names("Unique"), domain=MICROSOFT)
unsupported(
    "onnxruntime has no CPU kernel for it, so nothing here could be checked",
    _names("""
        BatchScale BiasAdd BiasDropout BiasSoftmax BiasSplitGelu BitmaskBiasDropout BitmaskDropout ComplexMul
        ComplexMulConj DecoderAttention DynamicSparseAttention EPContext FusedMatMulActivation
        GatedRelativePositionBias GemmaRotaryEmbedding GemmFastGelu GroupNorm HyperConnectionLowRankMix Irfft
        LongformerAttention MoEPacked PackedAttention PackedMultiHeadAttention PackedSparseAttentionIndexer
        PackedSparseAttentionIndexerMerge RelativePositionBias RemovePadding RestorePadding Rfft RMSNormRotary
        SkipGroupNorm Snpe SparseAttentionIndexer SwiGLU TorchEmbedding
    """),
    domain=MICROSOFT,
)
unsupported(
    "it belongs to a training graph, not to a model",
    _names("""
        AdamOptimizer AdamWOptimizer AdasumAllReduce BatchNormalizationGrad BatchNormInternal BiasFastGeluGrad_dX
        BiasGeluGrad_dX BiasSoftmaxDropout BroadcastGradientArgs ConcatTraining ConvGrad ConvTransposeGrad DivGrad
        DropoutGrad FakeQuantGrad FastGeluGrad FlattenAndUnpad GatherElementsGrad GatherGrad GatherNDGrad GeluGrad
        GistBinarizeDecoder GistBinarizeEncoder GistPack16Decoder GistPack16Encoder GistPack1Decoder
        GistPack1Encoder GistPack8Decoder GistPack8Encoder GistPackMsfp15Decoder GistPackMsfp15Encoder Group GRUGrad
        GRUTraining InPlaceAccumulator InPlaceAccumulatorV2 InplaceClipGradNorm InvertibleLayerNormalizationGrad
        LambOptimizer LayerNormalizationGrad LeakyReluGrad LogSoftmaxGrad LogSoftmaxGrad_13 LSTMGrad LSTMTraining
        MegatronF MegatronG MixedPrecisionScale NcclAllGather NcclAllReduce NcclReduceScatter
        NegativeLogLikelihoodLossInternal NegativeLogLikelihoodLossInternal2 PadAndUnflatten PassThrough PythonOp
        PythonOpGrad QuickGeluGrad RecordEvent Recv ReduceAllL2 ReduceSumTraining ReluGrad ResizeGrad Scale
        ScaledSum Send SGDOptimizer SGDOptimizerV2 ShrunkenGather SigmoidGrad SimplifiedLayerNormalizationGrad
        SliceGrad SoftmaxCrossEntropyLossGrad SoftmaxCrossEntropyLossInternal SoftmaxCrossEntropyLossInternalGrad
        SoftmaxDropoutGrad SoftmaxGrad SoftmaxGrad_13 SplitTraining SummaryHistogram SummaryMerge SummaryScalar
        SummaryText TanhGrad TritonOp WaitEvent YieldOp ZeroGradient
    """),
    domain=MICROSOFT,
)

LAYOUT = "it appears only in files that onnxruntime optimized at level `all`, for one machine; optimize at `extended`"

unsupported(LAYOUT, _names("NhwcConv NhwcFusedConv"), domain=MICROSOFT)
unsupported(
    LAYOUT,
    _names("AveragePool Conv GlobalAveragePool GlobalMaxPool MaxPool ReorderInput ReorderOutput Upsample"),
    domain="com.microsoft.nchwc",
)
unsupported(
    LAYOUT,
    _names("""
        AveragePool BatchNormalization Conv ConvTranspose DepthToSpace GlobalAveragePool GlobalLpPool GlobalMaxPool
        GridSample InstanceNormalization LpPool LRN MaxPool MaxUnpool QLinearAveragePool QLinearConv
        QLinearConvTranspose Resize SpaceToDepth
    """),
    domain="com.ms.internal.nhwc",
)
