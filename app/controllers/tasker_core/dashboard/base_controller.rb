# frozen_string_literal: true

require "action_controller" # for hosts without its railtie

module TaskerCore
  module Dashboard
    # The base class of the pages: authentication, security headers, and errors. The pages use nothing of the
    # application's layout, helpers and assets, and need a session only for actions.
    class BaseController < ActionController::Base
      HEADERS = {
        "Cache-Control" => "no-store",
        # Only the engine's own style sheet, and no script.
        "Content-Security-Policy" => "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; " \
                                     "frame-ancestors 'none'",
        "X-Frame-Options" => "DENY",
        "X-Content-Type-Options" => "nosniff",
        "Referrer-Policy" => "same-origin"
      }.freeze
      # Errors that Rails raises before an action begins.
      UNREADABLE = [ActionController::BadRequest, Mime::Type::InvalidMimeType].freeze
      NO_SESSION = "actions are disabled: this application has no session, which the pages need to reject forged " \
                   "forms; use the command line or the API, or add a session store to the middleware"
      # Parameters with JSON, which may contain fields that the application filters from its log.
      UNLOGGED = /\A(?:input|result)\z/
      # Form fields keep their entered values unescaped.
      FIELDS = %r{<input[^>]*>|<textarea[^>]*>[^<]*</textarea>}
      private_constant :HEADERS, :UNREADABLE, :UNLOGGED, :FIELDS

      include HTTP::ReadingRole

      layout "tasker_core/dashboard"
      helper PageHelper
      helper_method :permitted?, :sessions?
      # Independent of the application's own setting.
      self.allow_forgery_protection = true

      rescue_from StandardError, with: :render_error
      before_action :verify_enabled, :authenticate
      around_action :use_reading_role
      after_action :escape_invisible_characters
      protect_from_forgery with: :exception

      private

      def process_action(*)
        response.headers.merge!(HEADERS)
        request.set_header("action_dispatch.request.formats", [Mime[:html]])
        filters = request.get_header("action_dispatch.parameter_filter")
        request.set_header("action_dispatch.parameter_filter", [*filters, UNLOGGED])
        super
      rescue *UNREADABLE
        render_error(RequestError.new("its URL, its body or one of its headers cannot be read"))
      end

      def verify_enabled
        return if TaskerCore.config[:dashboard, :enabled]

        raise UnknownResourceError.new("the dashboard is disabled: dashboard.enabled is false")
      end

      def authenticate
        @actor = TaskerCore.access.actor(request)
      end

      def authorize(action, resource = :dashboard, record = nil)
        TaskerCore.access.verify!(@actor, action, resource, record)
      end

      def permitted?(action, resource, record) = TaskerCore.access.permits?(@actor, action, resource, record)

      # Whether requests have a session, which CSRF protection needs. API-only applications have none.
      def sessions?
        session = request.session
        !session.respond_to?(:enabled?) || session.enabled?
      end

      def handle_unverified_request
        raise RequestError.new("the form has expired or comes from another site: reload its page and submit it again")
      end

      def page_size = TaskerCore.config[:dashboard, :page_size]

      # The parameter `after`: the number after which the page begins.
      def after_number(first) = number_of(:after) || first

      # @return [Integer, nil]
      # @raise [ParameterError] if the parameter is not a number
      def number_of(name)
        given = params[name].presence or return
        number = given.to_i if given.is_a?(String) && given.match?(/\A\d{1,19}\z/)
        return number if number && number < 2**63

        raise ParameterError.of(name, given, "must be a number")
      end

      # Escapes characters that would make text of a page look different.
      def escape_invisible_characters
        response.body = Support::VisibleText.page(response.body, except: FIELDS) if response.media_type == "text/html"
      end

      # Lets the page refresh periodically, as it shows unended work.
      def refresh_page
        @refreshed = true
      end

      def render_error(error)
        error = error.cause if error.is_a?(ActionView::Template::Error) && error.cause
        @problem = HTTP::ProblemDetails.new(error)
        @problem.report
        response.headers.merge!(@problem.headers)
        self.response_body = nil
        render "tasker_core/dashboard/problem", status: @problem.status
        escape_invisible_characters
      end
    end
  end
end
