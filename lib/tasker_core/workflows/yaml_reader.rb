# frozen_string_literal: true

module TaskerCore
  module Workflows
    # Parses the YAML text of a workflow safely: rejects duplicate keys, which would lose values, aliases of aliases
    # that expand to more than memory holds, and tags, which would create Ruby objects.
    #
    # @api private
    class YamlReader
      # Nodes with all aliases expanded. The limit of a text is this number, or its number of bytes if that is larger.
      MOST_NODES = 1_000_000
      # Deeper than any valid definition. The parser's work grows with the square of the depth.
      DEEPEST = 200
      private_constant :MOST_NODES, :DEEPEST

      # Builds the tree down to {DEEPEST}.
      class Tree < Psych::TreeBuilder
        class TooDeep < StandardError; end

        def start_sequence(*) = deeper { super }

        def start_mapping(*) = deeper { super }

        def end_sequence = super.tap { @depth -= 1 }

        def end_mapping = super.tap { @depth -= 1 }

        private

        def deeper
          @depth = @depth.to_i + 1
          raise TooDeep if @depth > DEEPEST

          yield
        end
      end
      private_constant :Tree

      # @param text [String]
      # @param path [String] for messages
      def initialize(text, path)
        @text = text
        @path = path
      end

      # @return [Object] the text's value
      # @raise [WorkflowError] when it is not YAML, or rejected
      def value
        fault = Support::Utf8.fault(@text)
        invalid!(fault) if fault

        documents = parsing { tree.children }
        invalid!("has #{documents.size} documents, but must have one") if documents.size > 1
        documents.each { |document| measure(document.root, {}) }
        parsing { YAML.safe_load(@text, permitted_classes: [Symbol], aliases: true, filename: @path) }
      end

      private

      def parsing
        yield
      rescue Psych::Exception, ArgumentError, TypeError, EncodingError => e # by invalid text for a tag
        invalid!("is not valid YAML: #{e.message}")
      rescue RegexpError # Psych matches each word against patterns, and Rails sets Regexp.timeout
        invalid!("has an unquoted scalar that takes too long to parse: quote or shorten it")
      rescue Tree::TooDeep
        invalid!("is nested more than #{DEEPEST} levels deep: reduce the nesting")
      end

      def tree
        builder = Tree.new
        Psych::Parser.new(builder).parse(@text, @path)
        builder.root
      end

      # @param anchors [Hash{String => Integer}] nodes below each anchor so far
      # @return [Integer] nodes of this subtree, with all aliases expanded
      def measure(node, anchors)
        return anchors.fetch(node.anchor, 1) if node.is_a?(Psych::Nodes::Alias)
        return 1 unless node.children

        verify_keys(node) if node.is_a?(Psych::Nodes::Mapping)
        size = 1 + node.children.sum { |child| measure(child, anchors) }
        invalid!("has aliases that expand to more than #{most} values: write it without aliases") if size > most
        anchors[node.anchor] = size if node.anchor
        size
      end

      def verify_keys(mapping)
        seen = Set.new
        mapping.children.each_slice(2) do |key, _|
          next unless key.is_a?(Psych::Nodes::Scalar)

          next if seen.add?(key.value)

          invalid!("line #{key.start_line + 1}: the key `#{key.value.truncate(80)}` is given twice")
        end
      end

      def most = [@text.bytesize, MOST_NODES].max

      def invalid!(what) = raise(WorkflowError.new("#{@path} #{what}"))
    end
  end
end
