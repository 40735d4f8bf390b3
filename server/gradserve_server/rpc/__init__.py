"""The engine over gRPC. The only package that imports grpc."""
