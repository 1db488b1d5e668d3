# frozen_string_literal: true

module TaskerCore
  class Logging
    # Formats a line: as one JSON object, or as a sentence with fields for human readers. The standard fields come
    # first, in this order; absent ones are omitted. Invisible characters are escaped ({Support::VisibleText}).
    #
    # Rust formats its lines by the same rules (`ext/orchestrator/src/logs/format.rs`); tests compare both with
    # `spec/fixtures/logging/lines.json`.
    #
    # @api private
    module Format
      STANDARD = %i[correlation_id task_id workflow step attempt process duration_ms error.class error.message].freeze
      LEVELS = %w[debug info warn error fatal unknown].freeze
      # Needs no quotation marks.
      PLAIN = %r{\A[a-zA-Z0-9_.:/+-]+\z}
      private_constant :LEVELS, :PLAIN

      # The values of a line. Its own `fields` take precedence over the context's, and both over `constants`.
      Record = Struct.new(:at, :severity, :message, :context, :process, :fields, :constants) do
        # @return [Hash{Symbol => Object}]
        def entries
          entries = {}
          STANDARD.each do |name|
            value = standard(name)
            entries[name] = value unless value.nil?
          end
          fields.each { |name, value| entries[name] = value unless STANDARD.include?(name) }
          constants.each { |name, value| entries[name] = value unless STANDARD.include?(name) || entries.key?(name) }
          entries
        end

        private

        def standard(name)
          own = fields[name]
          return own unless own.nil?

          name == :process ? process : context && context[name]
        end
      end

      # As one JSON object.
      module Json
        module_function

        # @param record [Record]
        # @return [String]
        def line(record)
          head = { timestamp: time(record.at), level: LEVELS.fetch(record.severity), message: record.message }
          Support::VisibleText.line(Format.json(head.update(record.entries)))
        end

        # Caches the text of the current second.
        def time(at)
          second, text = @second
          unless second == at.to_i
            text = at.getutc.strftime("%Y-%m-%dT%H:%M:%S.")
            @second = [at.to_i, text].freeze
          end
          "#{text}#{at.usec.to_s.rjust(6, '0')}Z"
        end
        private_class_method :time
      end

      # For human readers; the logger adds time and level.
      module Human
        module_function

        # @param record [Record]
        # @return [String]
        def line(record)
          fields = record.entries.map { |name, value| Support::VisibleText.line(" #{name.name}=#{text(value)}") }
          "tasker_core: #{Support::VisibleText.line(record.message)}#{fields.join}"
        end

        def text(value)
          case value
          when Integer then value.to_s
          when String then value.ascii_only? && value.match?(PLAIN) ? value : Format.json(value)
          else Format.json(value)
          end
        end
        private_class_method :text
      end

      module_function

      # @param value [Object]
      # @return [String] JSON text, for any value: logging never raises
      def json(value)
        JSON.generate(value, max_nesting: 0)
      rescue JSON::JSONError, EncodingError, ArgumentError
        JSON.generate(writable(value), max_nesting: 0)
      end

      def writable(value)
        case value
        when Hash then value.to_h { |name, item| [writable(name.to_s), writable(item)] }
        when Array then value.map { |item| writable(item) }
        when Integer, true, false, nil then value
        when Float then value.finite? ? value : value.to_s
        else String.new(value.to_s).force_encoding(Encoding::UTF_8).scrub
        end
      end
      private_class_method :writable
    end
  end
end
