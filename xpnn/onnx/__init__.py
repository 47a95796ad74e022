"""Networks as ONNX models, which other programs run; see ``Network.to_onnx``.

There is no exporter for each layer. The layers' own ``forward`` runs once on stand-ins for arrays,
whose functions write down operators of ONNX in place of counting; so a layer of yours is exported
as those of xpnn are.
"""
