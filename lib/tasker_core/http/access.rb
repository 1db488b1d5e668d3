# frozen_string_literal: true

module TaskerCore
  module HTTP
    # Authentication and authorization of the mounted engine, for its API and its pages. Outside of development and
    # test, the engine is closed until the application configures {#authenticate_with}. Then each authenticated user may
    # do everything, unless the application configures {#authorize_with}.
    class Access
      # An authenticated caller without an identity.
      ANONYMOUS = true

      REMEDY = "the engine is closed: configure authentication in an initializer: " \
               "TaskerCore.authenticate_with(:token, \"…\"), " \
               "authenticate_with(:basic, name: \"…\", password: \"…\"), or authenticate_with { |request| … }"
      BEARER = 'Bearer realm="tasker_core"'
      BASIC = 'Basic realm="tasker_core", charset="UTF-8"'
      # The arguments of each scheme; nil is the form with a block.
      TAKEN = { basic: %i[name password], token: %i[tokens challenge], nil => %i[challenge block] }.freeze
      private_constant :REMEDY, :BEARER, :BASIC, :TAKEN

      # Configures authentication. The last call counts.
      #
      # @overload authenticate_with(challenge: "Bearer …", &block)
      #   @param challenge [String] the `WWW-Authenticate` header of a 401 response
      #   @yieldparam request [ActionDispatch::Request]
      #   @yieldreturn [Object, nil] the user, or nil; their {#name_of} is recorded with their actions
      # @overload authenticate_with(:basic, name:, password:)
      #   @param name [String]
      #   @param password [String]
      # @overload authenticate_with(:token, tokens)
      #   @param tokens [String, Array<String>] accepted in `Authorization: Bearer …`
      # @raise [ConfigurationError] if a name, password or token is blank, as with an environment variable that is not
      #   set, or if an argument has no effect in this form
      def authenticate_with(scheme = nil, tokens = nil, name: nil, password: nil, challenge: nil, &block)
        given = { tokens: tokens, name: name, password: password, challenge: challenge, block: block }.compact
        verify_taken(scheme, given.keys)
        @challenge = challenge || BEARER
        @authenticate =
          case scheme
          when :basic then basic(secret(:name, name), secret(:password, password))
          when :token then token(Array(tokens.presence || [nil]).map { |one| secret(:token, one) })
          when nil then block || raise(ConfigurationError.new("authenticate_with: give :basic, :token, or a block"))
          else raise ConfigurationError.new("authenticate_with: #{scheme.inspect} (#{scheme.class}) must be :basic " \
                                            "or :token, or a block")
          end
      end

      # Configures authorization. docs/api.md lists actions and resources.
      #
      # @yieldparam actor [Object] the user that {#authenticate_with} returned
      # @yieldparam action [Symbol] :list, :show, :create, :cancel, :retry, …
      # @yieldparam resource [Symbol] :tasks, :steps, :attempts, :workflows, :metrics, :health, :dashboard, …
      # @yieldparam record [Task, WorkflowStep, WorkflowVersion, Class<Workflow>, Workflows::YamlFile, nil] the one
      #   record, or nil
      # @yieldreturn [Boolean]
      def authorize_with(&block)
        @authorize = block || raise(ConfigurationError.new("authorize_with: give a block that returns true or false"))
      end

      # @param request [ActionDispatch::Request]
      # @return [Object] the authenticated user
      # @raise [ClosedError] without configured authentication, outside of development and test
      # @raise [UnauthenticatedError] if authentication fails
      def actor(request)
        return @authenticate.call(request) || raise(UnauthenticatedError.new(@challenge)) if @authenticate

        Support::HostApplication.local? ? ANONYMOUS : raise(ClosedError.new(REMEDY))
      end

      # @param actor [Object] the result of {#actor}
      # @param action [Symbol]
      # @param resource [Symbol]
      # @param record [Object, nil] see {#authorize_with}
      # @return [Boolean] whether {#authorize_with} permits it
      def permits?(actor, action, resource, record = nil)
        @authorize.nil? || !!@authorize.call(actor, action, resource, record)
      end

      # Parameters: see {#permits?}.
      # @raise [ForbiddenError] unless {#permits?}
      def verify!(actor, action, resource, record = nil)
        raise ForbiddenError.new(action, resource) unless permits?(actor, action, resource, record)
      end

      # @param actor [Object] the result of {#actor}
      # @param anonymous [String] the name of a user without one
      # @return [String] the name to record with an operator's actions: the result of `tasker_actor` if the user has
      #   that method, "User 5" for other records
      def name_of(actor, anonymous: "api")
        name = case actor
               when ANONYMOUS then nil
               when String, Symbol then actor.to_s
               else name_of_object(actor)
               end
        name.presence || anonymous
      end

      private

      def verify_taken(scheme, given)
        return unless TAKEN.key?(scheme)

        surplus = (given - TAKEN.fetch(scheme)).first or return
        form = scheme ? "with #{scheme.inspect}" : "without :basic or :token"
        raise ConfigurationError.new("authenticate_with: #{surplus} has no effect #{form}: leave it out")
      end

      def name_of_object(actor)
        return actor.tasker_actor.to_s if actor.respond_to?(:tasker_actor)

        [actor.class.name, (actor.id if actor.respond_to?(:id))].compact.join(" ")
      end

      def basic(name, password)
        @challenge = BASIC
        lambda do |request|
          given_name, given_password = credentials(request, "basic").unpack1("m").split(":", 2)
          # Compares both, so that the duration does not reveal which one was wrong.
          same?(given_name, name) & same?(given_password, password) ? given_name.force_encoding(Encoding::UTF_8) : nil
        end
      end

      def token(tokens)
        lambda do |request|
          given = credentials(request, "bearer")
          tokens.map { |token| same?(given, token) }.any? ? ANONYMOUS : nil
        end
      end

      def credentials(request, scheme)
        given_scheme, credentials = request.authorization.to_s.split(" ", 2)
        given_scheme.to_s.casecmp?(scheme) ? credentials.to_s.strip : ""
      end

      def same?(given, expected) = ActiveSupport::SecurityUtils.secure_compare(given.to_s.b, expected.b)

      def secret(field, value)
        return value if value.is_a?(String) && value.present?

        raise ConfigurationError.new("authenticate_with: #{field} is blank or not a String (#{value.class}): " \
                                     "it would let anyone in")
      end
    end
  end
end
